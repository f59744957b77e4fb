"""Oakleaf: experiments with generative adversarial networks, on PyTorch Lightning and Hydra."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["build", "from_pretrained", "load", "push_to_hub"]

HOME = {"from_pretrained": "oakleaf.export.pretrained", "push_to_hub": "oakleaf.export.pretrained"}


def __getattr__(name: str) -> Any:
    """`oakleaf.load`, `oakleaf.from_pretrained` and the others import torch only when they are asked for."""
    if name in __all__:
        return getattr(import_module(HOME.get(name, "oakleaf.builder.recipe")), name)
    raise AttributeError(f"module 'oakleaf' has no attribute {name!r}")

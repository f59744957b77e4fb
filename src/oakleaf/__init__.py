"""Oakleaf: experiments with generative adversarial networks, on PyTorch Lightning and Hydra.

Import it before torch: it sets how torch's threads wait for each other (`oakleaf.runtime.threads`), which torch reads
when it is imported.
"""

from importlib import import_module
from typing import Any

from oakleaf.runtime import threads
from oakleaf.runtime.version import VERSION

threads.configure()

__version__ = VERSION
__all__ = ["Run", "build", "from_pretrained", "load", "push_to_hub", "train"]

MODULES = {
    "build": "oakleaf.builder.build",
    "from_pretrained": "oakleaf.export.pretrained",
    "push_to_hub": "oakleaf.export.pretrained",
    "Run": "oakleaf.api",
    "load": "oakleaf.api",
    "train": "oakleaf.api",
}


def __getattr__(name: str) -> Any:
    """Import the public functions when they are first used, so that `import oakleaf` does not import torch."""
    if name in MODULES:
        return getattr(import_module(MODULES[name]), name)
    raise AttributeError(f"module 'oakleaf' has no attribute {name!r}")

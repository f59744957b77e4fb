"""What to say when memory ends."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def exhausted(error: BaseException) -> bool:
    """Whether an error says that there is no more memory, of a GPU or, where the system tells, of the machine."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def advice(module: Any, batch: Mapping[str, Tensor]) -> str:
    """The batch that fits, found by trying halves: each player's turn forward and backward, without a step."""
    count = len(next(iter(batch.values())))
    size = count // 2
    while size and not _fits(module, {name: rows[:size] for name, rows in batch.items()}):
        size //= 2
    if not size:
        return "not even one image fits into memory: lower data.size or the networks' width"
    return f"a batch of {count} does not fit into memory; one of {size} does: data.batch_size={size}"


def _fits(module: Any, batch: Mapping[str, Tensor]) -> bool:
    device = module.device
    for weight in module.parameters():
        weight.grad = None
    if device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        for name, weights in module.weights.items():
            for other in module.weights:
                for weight in module.weights[other]:
                    weight.requires_grad_(other == name)
            losses = module.game.paid(name, batch, tuple(module.game.owed(name)), None)
            if losses:
                torch.autograd.backward(sum(losses.values()), inputs=weights)  # type: ignore[arg-type]
        return True
    except Exception as error:
        if not exhausted(error):
            raise
        return False
    finally:
        for weight in module.parameters():
            weight.grad = None

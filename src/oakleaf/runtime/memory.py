"""Memory: networks weighed before they are made, so that a zero too many ends in a sentence, not in a killed process;
and what to say when it ends all the same.
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook

from oakleaf.errors import UserError

LAYERS = 20_000  # more than any network of the literature has


def build_on_meta(construct: Callable[[], nn.Module], copies: int = 1) -> nn.Module | None:
    """The module as shapes without numbers, which take no memory (torch's `meta` device); None if it can't be made in
    that way. copies: how often its weights will be in memory: 4 with gradients and Adam's two means.

    Raises:
        UserError: it has more layers, or needs more memory, than there can be; or what its constructor says.
    """
    layers = 0

    def count(*_: Any) -> None:
        nonlocal layers
        layers += 1
        if layers > LAYERS:
            raise UserError(f"model: more than {LAYERS:,} layers; is a number of blocks or levels meant to be smaller?")

    handle = register_module_module_registration_hook(count)
    try:
        with torch.device("meta"):
            module = construct()
    except UserError:
        raise
    except Exception as error:
        if any(isinstance(link, UserError) for link in (error.__cause__, error.__context__)):
            raise
        if "overflow" in str(error):
            raise UserError(
                "model: a layer would have more weights than can be numbered; which width is wrong?"
            ) from error
        return None  # whatever it is, building in earnest will say
    finally:
        handle.remove()
    _bearable(module, copies)
    return module


def _bearable(module: nn.Module, copies: int) -> None:
    tensors = [*module.parameters(), *module.buffers()]
    needed = copies * sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if needed > (there := total_bytes()):
        raise UserError(
            f"model: its weights need {needed / 1e9:,.0f} GB of memory, and this machine has {there / 1e9:,.0f} GB; "
            "lower the networks' width or data.size"
        )


def total_bytes() -> int:
    """Bytes that this process may have: the machine's, or its container's if that is less."""
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else ""
    return min(there, int(text)) if text.isdigit() else there


def available_bytes() -> int:
    """Bytes that this process may still have, by the system's own estimate; where it makes none, all of `granted`."""
    file = Path("/proc/meminfo")
    told = re.search(r"^MemAvailable:\s*(\d+) kB", file.read_text() if file.is_file() else "", re.MULTILINE)
    return min(total_bytes(), int(told[1]) * 1024) if told else total_bytes()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no more memory, of a GPU or, where the system tells, of the machine."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def batch_size_advice(module: Any, batch: Mapping[str, Tensor]) -> str:
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
            losses = module.game.losses(name, batch, tuple(module.game.terms_of(name)), None)
            if losses:
                torch.autograd.backward(sum(losses.values()), inputs=weights)  # type: ignore[arg-type]
        return True
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        for weight in module.parameters():
            weight.grad = None

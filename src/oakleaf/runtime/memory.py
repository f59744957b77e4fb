"""Memory limits: networks are measured before they are built, and an error names the batch size that would fit."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook

from oakleaf.errors import UserError

MAX_LAYERS = 20_000  # more than any published network has


def build_on_meta(construct: Callable[[], nn.Module], copies: int = 1) -> nn.Module | None:
    """Build a module on torch's `meta` device, where tensors have a shape but no memory, and check its size.

    A typing mistake such as one zero too many in a width would otherwise make the system kill the process, without a
    message.

    Args:
        construct: builds the module.
        copies: how many times the weights will be in memory: 4 in training (gradients and Adam's two moments).

    Returns:
        The module without memory; None if it cannot be built in this way. Building it normally then raises the error.

    Raises:
        UserError: it has more than 20,000 layers, or needs more memory than this machine has; or its constructor's.
    """
    layers = 0

    def count(*_: Any) -> None:
        nonlocal layers
        layers += 1
        if layers > MAX_LAYERS:
            raise UserError(f"model: more than {MAX_LAYERS:,} layers; lower the number of its blocks or levels")

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
            raise UserError("model: a layer has more weights than 64 bits can count; which width is wrong?") from error
        return None
    finally:
        handle.remove()
    _check_size(module, copies)
    return module


def _check_size(module: nn.Module, copies: int) -> None:
    tensors = [*module.parameters(), *module.buffers()]
    required = copies * sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if required > (total := total_bytes()):
        raise UserError(
            f"model: its weights need {required / 1e9:,.0f} GB of memory, and this machine has {total / 1e9:,.0f} GB; "
            "lower the networks' width or data.size"
        )


def total_bytes() -> int:
    """Return the memory in bytes that this process may use: the machine's, or its container's limit if that is less."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else ""
    return min(total, int(text)) if text.isdigit() else total


def available_bytes() -> int:
    """Return the memory in bytes that is still free by the system's estimate; `total_bytes` where it makes none."""
    file = Path("/proc/meminfo")
    found = re.search(r"^MemAvailable:\s*(\d+) kB", file.read_text() if file.is_file() else "", re.MULTILINE)
    return min(total_bytes(), int(found[1]) * 1024) if found else total_bytes()


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that a GPU's memory, or the machine's, is exhausted."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def batch_size_advice(module: Any, batch: Mapping[str, Tensor]) -> str:
    """Find the largest batch that fits by halving, and return it as an error message.

    Each try runs the forward and backward pass of every player, without an optimizer step.

    Args:
        module: the GAN.
        batch: the batch that did not fit, tensors [B, ...] by name.
    """
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
            losses = module.game.losses(name, batch, tuple(module.game.terms_of(name)))
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

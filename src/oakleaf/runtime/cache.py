"""Files in `data.cache`: features and networks that an evaluation computes once and later evaluations read."""

import hashlib
from pathlib import Path
from typing import Any

import torch

from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import atomic_write


def cache_path(cache: Path, folder: str, key: tuple[Any, ...], suffix: str = ".pt") -> Path:
    """Name the file for a key.

    Args:
        cache: `data.cache`.
        folder: subfolder for one kind of content.
        key: everything that the content depends on; the file name is a hash of its `repr`.
        suffix: ending of the file name.
    """
    name = hashlib.blake2b(repr(key).encode(), digest_size=16).hexdigest()
    return cache.expanduser() / folder / f"{name}{suffix}"


def save(content: dict[str, Any], file: Path, description: str) -> None:
    """Save weights atomically: write a temporary file in the same folder, then rename it.

    Args:
        content: what `torch.save` writes.
        file: the path from `cache_path`.
        description: what the content is, for the error message.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as part:
            torch.save(content, part)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        message = f"{file.parent}: the {description} cannot be saved ({error}); choose another data.cache"
        raise UserError(message) from error


def hash_weights(network: torch.nn.Module) -> str:
    """Return a hash of a network's weights and buffers, eight hexadecimal digits."""
    total = hashlib.blake2b(digest_size=4)
    for weight in network.state_dict().values():
        total.update(weight.cpu().contiguous().numpy().tobytes())
    return total.hexdigest()

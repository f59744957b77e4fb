"""Reading weights from files, as data alone: safetensors, torch's files, and tfjs manifests."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from oakleaf.errors import UserError, one_line
from oakleaf.runtime.checkpoint_io import READ_ERRORS

Weights = dict[str, Tensor]
NESTED = ("state_dict", "model", "model_state_dict")  # keys under which files often hold the weights


def existing_file(place: str, key: str) -> Path:
    """Return a path with `~` expanded.

    Args:
        place: the path.
        key: the option that holds it, for the message.

    Raises:
        UserError: there is no such file.
    """
    file = Path(place).expanduser()
    if not file.is_file():
        raise UserError(f"{key}={place}: there is no such file")
    return file


def read_weights(file: Path) -> Weights:
    """Read a file of weights: `.safetensors`, a manifest of TensorFlow.js (`.json`), else a file of `torch.save`.

    No file can execute code: torch's are read with `weights_only=True`.

    Raises:
        UserError: the file is damaged, or holds something else.
    """
    readers: dict[str, Callable[[Path], Any]] = {".safetensors": _read_safetensors, ".json": read_tfjs}
    try:
        content = readers.get(file.suffix, _read_torch)(file)
    except READ_ERRORS as error:
        raise UserError(f"{file} is not a file of weights, or it is damaged ({type(error).__name__})") from error
    for key in NESTED:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()) or not content:
        raise UserError(f"{file} holds no weights by name (a state dict)")
    return content


def _read_torch(file: Path) -> Any:
    return torch.load(file, map_location="cpu", weights_only=True)


def _read_safetensors(file: Path) -> Any:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise UserError(f"{file} needs safetensors: pip install 'oakleaf[pretrained]'") from error
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def read_tfjs(manifest: Path) -> Weights:
    """Read the weights of a TensorFlow.js manifest, of which quantised ones are `scale * number + min`.

    Args:
        manifest: NAME-weights_manifest.json; the numbers are in the files that it lists, or in NAME.bin, beside it.

    Returns:
        The weights by their names in the manifest, in TensorFlow's layout (convolutions are [h, w, in, out]).

    Raises:
        ValueError: the files have another length than the manifest says.
    """
    weights: Weights = {}
    for group in json.loads(manifest.read_text()):
        files = [manifest.parent / Path(name).name for name in group.get("paths", [])]
        if not files or not all(file.is_file() for file in files):
            files = [manifest.with_name(manifest.name.replace("-weights_manifest.json", ".bin"))]
        content, offset = b"".join(file.read_bytes() for file in files), 0
        for entry in group["weights"]:
            quantisation = entry.get("quantization")
            kind = np.dtype(quantisation["dtype"] if quantisation else entry["dtype"])
            numbers = np.frombuffer(content, kind, math.prod(entry["shape"]), offset)
            offset += numbers.nbytes
            values = numbers.astype(np.float32)
            if quantisation:
                values = values * np.float32(quantisation["scale"]) + np.float32(quantisation["min"])
            weights[entry["name"]] = torch.from_numpy(values.reshape(entry["shape"]))
        if offset != len(content):
            raise ValueError(f"{files[0].name} has {len(content)} bytes, the manifest describes {offset}")
    return weights


def load_weights(network: nn.Module, weights: Weights, file: Path) -> None:
    """Put weights into a network.

    Raises:
        UserError: names or shapes differ.
    """
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{file}: these are the weights of another network ({one_line(error)} ...)") from error

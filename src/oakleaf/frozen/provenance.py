"""Where a frozen network comes from, and whether two networks are the same one."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from oakleaf.runtime.checkpoint_io import file_hash

LARGE = 1000  # numbers; equal tensors of fewer numbers, such as BatchNorm's initial weights, prove nothing


@dataclass
class Provenance:
    """What identifies a network's weights.

    Attributes:
        source: the class and the name of the network, for messages.
        hash: of all weights, 16 hexadecimal digits; empty if it has none yet.
        tensors: hashes of its large tensors, by which it is recognised with another head or in another file.
        file: the name of the file that the weights were read from.
        file_hash: of the file's content.
        data: the hash of the data that it was trained on here.
        part: which rows of these data.
        seed: of that training.
        task: what it was trained for.
    """

    source: str
    hash: str = ""
    tensors: list[str] = field(default_factory=list)
    file: str = ""
    file_hash: str = ""
    data: str = ""
    part: str = ""
    seed: int | None = None
    task: str = ""

    def to_tensor(self) -> Tensor:
        """Return this as JSON in a tensor [N] uint8, which checkpoints and safetensors files can hold."""
        return torch.frombuffer(bytearray(json.dumps(asdict(self)).encode()), dtype=torch.uint8)


def from_tensor(content: Tensor) -> Provenance:
    """Read what `Provenance.to_tensor` wrote; unknown keys are left out.

    Raises:
        ValueError: the tensor holds something else.
    """
    values: Any = json.loads(bytes(content.to("cpu", torch.uint8).tolist()))
    if not isinstance(values, dict) or not isinstance(values.get("source"), str):
        raise ValueError("not a provenance")
    return Provenance(**{name: value for name, value in values.items() if name in Provenance.__dataclass_fields__})


def of_weights(source: str, network: nn.Module, file: Path | None = None) -> Provenance:
    """Return the provenance of a network with its weights.

    Args:
        source: the class and the name of the network.
        network: with its weights.
        file: that they were read from, if any.
    """
    tensors = [(name, tensor_hash(tensor)) for name, tensor in sorted(network.state_dict().items())]
    total = hashlib.blake2b(repr(tensors).encode(), digest_size=8).hexdigest()
    large = {tensor_hash(t) for t in network.state_dict().values() if t.numel() >= LARGE and t.is_floating_point()}
    return Provenance(source, total, sorted(large), file.name if file else "", file_hash(file) if file else "")


def tensor_hash(tensor: Tensor) -> str:
    """Return 16 hexadecimal digits that identify the values and the shape of a tensor."""
    content = tensor.detach().cpu().contiguous()
    total = hashlib.blake2b(repr((tuple(content.shape), str(content.dtype))).encode(), digest_size=8)
    total.update(content.flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def same_network(one: Provenance, other: Provenance) -> str | None:
    """Return why two networks count as the same one, or None if they do not.

    They do if they have the same weights, or any large tensor in common; if they were read from the same file; or if
    they were trained for the same task on common rows of the same data with the same seed.
    """
    if one.hash and one.hash == other.hash:
        return "they have the same weights"
    if one.file_hash and one.file_hash == other.file_hash:
        return "both were read from the same file"
    if set(one.tensors) & set(other.tensors):
        return "they have layers with the same weights"
    same_training = (one.data, one.task, one.seed) == (other.data, other.task, other.seed) and bool(one.data)
    if same_training and {one.part, other.part} != {"even", "odd"}:
        return "both were trained on the same images with the same seed"
    return None

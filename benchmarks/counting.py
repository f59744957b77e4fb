"""What a system's turn takes, counted on the system itself: weights, FLOPs, and what autograd keeps."""

import tempfile
from dataclasses import dataclass
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from oakleaf.cli.door import conf
from oakleaf.recipe import build

COUNTED = 2  # images that are played to count; the result is per image


@dataclass
class System:
    """bytes are of fp32; flops, activations and pixels are of one image that is seen."""

    name: str
    batch: int
    weights: int
    averaged: int
    reduced: float  # bytes of gradients that a turn averages over processes, by each player's `every`
    flops: float
    activations: float
    pixels: int

    @property
    def fixed(self) -> float:
        """Bytes that do not grow with the batch: weights, their gradients, Adam's two moments, the average; and the
        flat copy of the gradients that the all-reduce takes."""
        return 4 * (4 * self.weights + self.averaged) + self.reduced


def counted(name: str, batch_size: int, overrides: list[str]) -> System:
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(conf()), version_base="1.3"):
        fixed = ["logger=csv", "trainer=cpu", f"folder={folder}"]
        module, data, _ = build(compose("train", overrides=[*fixed, *overrides]))
    shape = (COUNTED, data.channels, *data.size)
    batch = {"image": torch.rand(shape) * 2 - 1}
    if data.input_channels:
        batch["input"] = torch.rand(COUNTED, data.input_channels, *data.size) * 2 - 1
    elif module.game.condition:
        data.prepare_data()
        data.setup("fit")
        module.game.condition.meet(data)
        batch = data.batch(torch.arange(COUNTED))
    flops = reduced = activations = 0.0
    for player, how in module.players.items():
        own, kept = played(module, player, batch)
        flops += own / how.every / COUNTED
        activations = max(activations, kept / COUNTED)
        reduced += 4 * sum(weight.numel() for weight in module.weights[player]) / how.every
    numbers = {player: sum(weight.numel() for weight in weights) for player, weights in module.weights.items()}
    averaged = sum(numbers[player] for player in module.averages)
    pixels = data.channels * data.size[0] * data.size[1]
    return System(name, batch_size, sum(numbers.values()), averaged, reduced, flops, activations, pixels)


def played(module: Any, player: str, batch: dict[str, torch.Tensor]) -> tuple[float, float]:
    """FLOPs of a player's whole turn, and bytes that its forward pass keeps for the way back."""
    for other, weights in module.weights.items():
        for weight in weights:
            weight.requires_grad_(other == player)
    ours = {weight.untyped_storage().data_ptr() for weights in module.weights.values() for weight in weights}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in ours:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with FlopCounterMode(display=False) as counter:
        with saved_tensors_hooks(note, lambda tensor: tensor):
            losses, _ = module.game.losses(player, batch, 0, 0)
        sum(losses.values()).backward()
    return float(counter.get_total_flops()), float(sum(kept.values()))

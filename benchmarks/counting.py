"""What a system's turn takes, counted on the system itself: weights, FLOPs, and what autograd keeps."""

import tempfile
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from oakleaf.builder.build import build
from oakleaf.builder.compose import compose_config

COUNTED = 2, 4  # batches that are played to count: what two images more take, and not what each turn takes anyhow


@dataclass
class System:
    """bytes are of fp32; flops, activations and pixels are of one more image that is seen. What a turn takes whatever
    its batch, such as a normalised weight, is left out.
    """

    name: str
    batch: int
    weights: int
    averaged: int
    reduced: float  # bytes of gradients that a turn averages over processes, by each player's `every`
    reductions: float  # and in how many exchanges: one a player that plays
    flops: float
    activations: float
    pixels: int

    @property
    def fixed(self) -> float:
        """Bytes that do not grow with the batch: weights, their gradients, Adam's two moments, the average; and the
        flat copy of the gradients that the all-reduce takes."""
        return 4 * (4 * self.weights + self.averaged) + self.reduced


def counted(name: str, batch_size: int, overrides: list[str]) -> System:
    with tempfile.TemporaryDirectory() as folder:
        fixed = ["logger=csv", "trainer=cpu", f"folder={folder}"]
        module, data, _ = build(compose_config("train", [*fixed, *overrides]))
    if module.game.condition and not data.input_channels:
        data.prepare_data()
        data.setup("fit")
        module.game.condition.fit(data)
    flops = reduced = activations = 0.0
    for player, how in module.players.items():
        (own, kept), (more, longer) = (played(module, player, noise(module, data, count)) for count in COUNTED)
        apart = COUNTED[1] - COUNTED[0]
        flops += (more - own) / how.every / apart
        activations = max(activations, (longer - kept) / apart)
        reduced += 4 * sum(weight.numel() for weight in module.weights[player]) / how.every
    reductions = sum(1 / how.every for how in module.players.values())
    numbers = {player: sum(weight.numel() for weight in weights) for player, weights in module.weights.items()}
    averaged = sum(numbers[player] for player in module.ema)
    pixels = (data.channels + data.input_channels) * data.size[0] * data.size[1]
    weights = sum(numbers.values())
    return System(name, batch_size, weights, averaged, reduced, reductions, flops, activations, pixels)


def noise(module: Any, data: Any, count: int) -> dict[str, torch.Tensor]:
    """A batch of so many images that mean nothing, or the set's first where they are told something."""
    if module.game.condition and not data.input_channels:
        return data.batch(torch.arange(count))  # type: ignore[no-any-return]
    channels = {"image": data.channels, "input": data.input_channels}
    return {name: torch.rand(count, of, *data.size) * 2 - 1 for name, of in channels.items() if of}


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
            losses, _ = module.game.player_losses(player, batch, 0)
        sum(losses.values()).backward()
    return float(counter.get_total_flops()), float(sum(kept.values()))

"""Exponential moving averages of players' weights: of the generator, with which images are made, and of others."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from oakleaf.config.types import NonNegativeFloat, PositiveFloat

DEFAULT_PLAYERS = ("generator", "encoder")


@dataclass
class EMA:
    """A half-life in images seen, so that it means the same at any batch size (as in the code of Karras 2019,
    arXiv:1912.04958). In the beginning it is at most `ramp` of the images seen so far, so that the random
    initialisation is soon forgotten (as in the code of Karras 2020, arXiv:2006.06676). of: the players; null: the
    generator, and the encoder where there is one, so that G(E(x)) is of two averages.
    """

    half_life: PositiveFloat = 10_000
    ramp: NonNegativeFloat = 0.05
    of: Sequence[str] | None = None

    def players(self, there: Iterable[str]) -> list[str]:
        """Whose average is kept, of those that are there."""
        return [name for name in there if name in DEFAULT_PLAYERS] if self.of is None else list(self.of)

    def decay(self, images: int, step: int) -> float:
        """How much of the average stays when `step` more images have been seen, `images` in all."""
        half_life = min(self.half_life, self.ramp * images) if self.ramp else self.half_life
        return 0.5 ** (step / max(half_life, 1e-8))


class AveragedNetwork(nn.Module):
    """The average of a network's weights and buffers (BatchNorm's statistics), without gradients, in eval mode."""

    def __init__(self, network: nn.Module, ema: EMA) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.ema = ema

    def train(self, mode: bool = True) -> "AveragedNetwork":
        """Always in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def update(self, network: nn.Module, images: int, step: int) -> None:
        """Take in the network as it is after `images` images, the last `step` of them since the previous update."""
        mine, theirs = [*_numbers(self.network)], [*_numbers(network)]
        torch._foreach_lerp_(
            [a for a in mine if a.is_floating_point()],
            [b for b in theirs if b.is_floating_point()],
            1 - self.ema.decay(images, step),
        )
        for a, b in zip(mine, theirs):
            if not a.is_floating_point():  # counts
                a.copy_(b)


def _numbers(network: nn.Module) -> list[torch.Tensor]:
    return [*network.parameters(), *network.buffers()]

"""Exponential moving averages of networks' weights."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from oakleaf import compat
from oakleaf.config.types import NonNegativeFloat, NonNegativeInt, PositiveFloat
from oakleaf.optim.player import Player

POWER_ITERATION = ("._u", "._v")  # the buffers of torch.nn.utils.parametrizations.spectral_norm


@dataclass
class EMA:
    """Settings of the moving averages.

    The half-life is in images seen, so that it means the same at any batch size (as in the code of Karras 2019,
    arXiv:1912.04958). At the beginning it is at most `ramp` times the images seen so far, so that the random
    initialisation is soon forgotten (as in the code of Karras 2020, arXiv:2006.06676).

    Args:
        half_life: images after which a weight's influence has halved.
        ramp: limit of the half-life as a share of the images seen; 0 for no limit.
        of: the players with an average; None: all generators and encoders, so that reconstructions G(E(x)) use two
            averaged networks.
        start: images seen before the average begins; until then it is the network itself (Brock 2018, arXiv:1809.11096,
            appendix C, and its code).
    """

    half_life: PositiveFloat = 10_000
    ramp: NonNegativeFloat = 0.05
    of: Sequence[str] | None = None
    start: NonNegativeInt = 0

    def players(self, players: Mapping[str, Player]) -> list[str]:
        """Return which of these players have an average."""
        return [name for name, p in players.items() if p.role != "critic"] if self.of is None else list(self.of)

    def decay(self, images: int, step: int) -> float:
        """Return the factor of the old average when `step` more images have been seen, `images` in all."""
        if images <= self.start:
            return 0.0
        half_life = min(self.half_life, self.ramp * images) if self.ramp else self.half_life
        return 0.5 ** (step / max(half_life, 1e-8))


class AveragedNetwork(nn.Module):
    """The moving average of a network's parameters and buffers, always in eval mode and without gradients.

    Floating-point buffers (BatchNorm's statistics) are averaged, integer buffers (its count of batches) are copied.
    The vectors of spectral normalisation's power iteration are copied, too: the average of unit vectors that turn is no
    singular vector, and the weight divided by its sigma would be too large.

    Args:
        network: the network to average; it is copied.
        ema: the settings.
    """

    def __init__(self, network: nn.Module, ema: EMA) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.ema = ema
        named = [*self.network.named_parameters(), *self.network.named_buffers()]
        self.averaged = [t.is_floating_point() and not name.endswith(POWER_ITERATION) for name, t in named]

    def train(self, mode: bool = True) -> "AveragedNetwork":
        """Stay in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def update(self, network: nn.Module, images: int, step: int) -> None:
        """Move the average towards the network.

        Args:
            network: the network as it is now.
            images: images seen so far.
            step: images since the last update.
        """
        averages, current = _tensors(self.network), _tensors(network)
        pairs = list(zip(self.averaged, averages, current))
        compat.foreach_lerp_(
            [average for averaged, average, _ in pairs if averaged],
            [tensor for averaged, _, tensor in pairs if averaged],
            1 - self.ema.decay(images, step),
        )
        for averaged, average, tensor in pairs:
            if not averaged:
                average.copy_(tensor)


def _tensors(network: nn.Module) -> list[torch.Tensor]:
    return [*network.parameters(), *network.buffers()]

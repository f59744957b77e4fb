"""Plain perceptrons, for points: linear at the end, so that no coordinate is out of reach."""

from itertools import pairwise
from math import prod

from torch import Tensor, nn

from oakleaf.networks.layers import Size, he_weights, height_width
from oakleaf.numbers import Count, NonNegative
from oakleaf.round import Verdict


class Generator(nn.Module):
    """Rectified layers, then one linear map."""

    def __init__(
        self,
        latent: Count,
        channels: Count,
        size: Size,
        hidden: tuple[int, ...] = (128, 128, 128),
        slope: NonNegative = 0.0,
    ) -> None:
        super().__init__()
        self.shape = (channels, *height_width(size))
        self.layers = _layers([latent, *hidden, prod(self.shape)], slope)

    def forward(self, z: Tensor) -> Tensor:
        """z [B, latent] -> [B, C, H, W], of any size"""
        return self.layers(z).unflatten(1, self.shape)


class Discriminator(nn.Module):
    """Rectified layers, then one logit; without normalisation."""

    def __init__(
        self, channels: Count, size: Size, hidden: tuple[int, ...] = (128, 128, 128), slope: NonNegative = 0.2
    ) -> None:
        super().__init__()
        self.layers = _layers([channels * prod(height_width(size)), *hidden, 1], slope)

    def forward(self, x: Tensor) -> Verdict:
        """x [B, C, H, W] -> score [B]"""
        return Verdict(self.layers(x.flatten(1)).squeeze(1).float())


def _layers(widths: list[int], slope: float) -> nn.Sequential:
    *inner, last = [nn.Linear(i, o) for i, o in pairwise(widths)]
    layers = nn.Sequential(*[step for linear in inner for step in (linear, nn.LeakyReLU(slope))], last)
    he_weights(layers, slope)
    return layers

"""Plain perceptrons, for points: linear at the end, so that no coordinate is out of reach, and never in bfloat16, whose
steps are as large as the Gaussians.
"""

from itertools import pairwise
from math import log, pi, prod

import torch
from torch import Tensor, nn

from oakleaf.networks.layers import Size, he_weights, height_width
from oakleaf.networks.minibatch import MinibatchDiscrimination
from oakleaf.numbers import Count, Natural, NonNegative, Positive
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
        with _exact(z):
            return self.layers(z).unflatten(1, self.shape)


class Discriminator(nn.Module):
    """Rectified layers, then one logit; without normalisation.

    waves: random sines and cosines of the coordinates that are shown beside them, so that it sees what is much smaller
    than their range (Tancik 2020, arXiv:2006.10739, section 4); highest: their largest number of periods on a unit of
    length, the smallest is 1/4, log-uniform in between.
    minibatch: kernels of minibatch discrimination, which the logit sees besides (Salimans 2016, arXiv:1606.03498,
    section 3.2), or 0.
    """

    waves: Tensor  # [inputs, waves]

    def __init__(
        self,
        channels: Count,
        size: Size,
        hidden: tuple[int, ...] = (128, 128, 128),
        slope: NonNegative = 0.0,
        waves: Natural = 0,
        highest: Positive = 16.0,
        minibatch: Natural = 0,
    ) -> None:
        super().__init__()
        inputs = channels * prod(height_width(size))
        direction = torch.nn.functional.normalize(torch.randn(inputs, waves), dim=0)
        periods = torch.exp(torch.empty(waves).uniform_(log(0.25), log(highest)))
        self.register_buffer("waves", 2 * pi * periods * direction)
        self.layers = _layers([inputs + 2 * waves, *hidden, 1], slope)
        self.others = MinibatchDiscrimination(hidden[-1], minibatch) if minibatch else None
        if self.others is not None:
            self.layers[-1] = _layers([hidden[-1] + minibatch, 1], slope)[0]

    def forward(self, x: Tensor) -> Verdict:
        """x [B, C, H, W] -> score [B], features [B, f]: what the logit sees"""
        with _exact(x):
            x = x.flatten(1)
            phase = x @ self.waves
            features = self.layers[:-1](torch.cat([x, phase.sin(), phase.cos()], 1))
            if self.others is not None:
                features = self.others(features)
            return Verdict(self.layers[-1](features).squeeze(1).float(), features=features)


def _exact(x: Tensor) -> torch.autocast:
    return torch.autocast(x.device.type, enabled=False)


def _layers(widths: list[int], slope: float) -> nn.Sequential:
    *inner, last = [nn.Linear(i, o) for i, o in pairwise(widths)]
    layers = nn.Sequential(*[step for linear in inner for step in (linear, nn.LeakyReLU(slope))], last)
    he_weights(layers, slope)
    return layers

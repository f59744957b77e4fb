"""Plain perceptrons, for points: linear at the end, so that no coordinate is out of reach, and never in bfloat16, whose
steps are as large as the Gaussians.
"""

from itertools import chain, pairwise
from math import log, pi, prod

import torch
from torch import Tensor, nn

from oakleaf.config.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from oakleaf.networks.layers import MapNorm, Maxout, Size, he_weights, height_width
from oakleaf.networks.layers import norm as normalisation
from oakleaf.networks.minibatch import MinibatchDiscrimination
from oakleaf.round import CriticOutput


class Generator(nn.Module):
    """Rectified layers, then one linear map. norm: before each rectifier. sd: of the weights at first; null: He's."""

    def __init__(
        self,
        latent: PositiveInt,
        channels: PositiveInt,
        size: Size,
        hidden: tuple[int, ...] = (128, 128, 128),
        slope: NonNegativeFloat = 0.0,
        norm: MapNorm = "none",
        sd: PositiveFloat | None = None,
    ) -> None:
        super().__init__()
        self.shape = (channels, *height_width(size))
        inner = [_rectified(i, o, slope, norm) for i, o in pairwise([latent, *hidden])]
        self.layers = nn.Sequential(*chain(*inner), nn.Linear([latent, *hidden][-1], prod(self.shape)))
        _begin(self, slope, sd)

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
    section 3.2), or 0. pieces: each unit is the largest of so many linear maps (maxout, Goodfellow 2013,
    arXiv:1302.4389), or 0. sd: of the weights at first; null: He's.
    """

    waves: Tensor  # [inputs, waves]

    def __init__(
        self,
        channels: PositiveInt,
        size: Size,
        hidden: tuple[int, ...] = (128, 128, 128),
        slope: NonNegativeFloat = 0.0,
        waves: NonNegativeInt = 0,
        highest: PositiveFloat = 16.0,
        minibatch: NonNegativeInt = 0,
        pieces: NonNegativeInt = 0,
        sd: PositiveFloat | None = None,
    ) -> None:
        super().__init__()
        inputs = channels * prod(height_width(size))
        direction = torch.nn.functional.normalize(torch.randn(inputs, waves), dim=0)
        periods = torch.exp(torch.empty(waves).uniform_(log(0.25), log(highest)))
        self.register_buffer("waves", 2 * pi * periods * direction)
        widths = [inputs + 2 * waves, *hidden]
        steps = [[Maxout(i, o, pieces)] if pieces else _rectified(i, o, slope, "none") for i, o in pairwise(widths)]
        self.layers = nn.Sequential(*chain(*steps), nn.Linear(widths[-1] + minibatch, 1))
        self.others = MinibatchDiscrimination(widths[-1], minibatch) if minibatch else None
        _begin(self, slope, sd)

    def forward(self, x: Tensor) -> CriticOutput:
        """x [B, C, H, W] -> score [B], features [B, f]: what the logit sees"""
        with _exact(x):
            x = x.flatten(1)
            phase = x @ self.waves
            features = self.layers[:-1](torch.cat([x, phase.sin(), phase.cos()], 1))
            if self.others is not None:
                features = self.others(features)
            return CriticOutput(self.layers[-1](features).squeeze(1).float(), features=features)


def _exact(x: Tensor) -> torch.autocast:
    return torch.autocast(x.device.type, enabled=False)


def _rectified(inputs: int, units: int, slope: float, kind: MapNorm) -> list[nn.Module]:
    if kind == "none":
        return [nn.Linear(inputs, units), nn.LeakyReLU(slope)]
    return [nn.Linear(inputs, units, bias=False), normalisation(kind, units, flat=True), nn.LeakyReLU(slope)]


def _begin(network: nn.Module, slope: float, sd: float | None) -> None:
    he_weights(network, slope)
    for module in network.modules():
        if sd is not None and isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, sd)

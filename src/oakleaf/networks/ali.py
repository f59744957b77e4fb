"""The convolutions of ALI, for all sizes that a DCGAN makes. Dumoulin 2016, arXiv:1606.00704, appendix A
(CIFAR-10); code IshmaelBelghazi/ALI, experiments/ali_cifar10.py.

Encoder and generator are mirrors of each other, with batch normalisation; D(x, z) looks at x and z apart and then at
both, with maxout and dropout, and without normalisation. As there, a convolution of 5 at full size comes first and
strided ones of 4 double the channels; unlike there, no others of stride 1 are in between, strides go on to a base of
4 to 7 pixels, and initial weights are DCGAN's or, in D, He's (sd 0.01 there).
"""

from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from oakleaf.config.types import Fraction, NonNegativeFloat, PositiveInt
from oakleaf.networks.dcgan import downsample_layer, upsample_layer
from oakleaf.networks.layers import Size, dcgan_weights, halvings, norm
from oakleaf.round import CriticOutput


class Generator(nn.Module):
    """z projected onto a base of 4 to 7 pixels, doubled up to full size, and looked over there by 5 x 5 and 1 x 1."""

    def __init__(
        self,
        latent: PositiveInt,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 32,
        slope: NonNegativeFloat = 0.1,
    ) -> None:
        super().__init__()
        count, base = halvings(size)
        widths = [width << k for k in reversed(range(count + 1))]
        shape = (widths[0], *base)
        self.layers = nn.Sequential(
            nn.Linear(latent, prod(shape), bias=False),
            _normed(nn.Unflatten(1, shape), widths[0], slope),
            *[_normed(upsample_layer(i, o, 4, bias=False), o, slope) for i, o in pairwise(widths)],
            _normed(nn.Conv2d(width, width, 5, padding=2, bias=False), width, slope),
            _normed(nn.Conv2d(width, width, 1, bias=False), width, slope),
            nn.Conv2d(width, channels, 1),
        )
        dcgan_weights(self, normalised=True)

    def forward(self, z: Tensor) -> Tensor:
        """z [B, latent] -> [B, C, H, W] in [-1, 1]"""
        return 2 * self.layers(z).sigmoid() - 1


class Encoder(nn.Module):
    """q(z | x), a Gaussian with independent coordinates: E draws from it by reparametrisation (eq. (2)), and in
    eval mode gives its mean.
    """

    def __init__(
        self,
        latent: PositiveInt,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 32,
        hidden: PositiveInt = 512,
        slope: NonNegativeFloat = 0.1,
    ) -> None:
        super().__init__()
        count, base = halvings(size)
        widths = [width << k for k in range(count + 1)]
        self.layers = nn.Sequential(
            _normed(nn.Conv2d(channels, width, 5, padding=2, bias=False), width, slope),
            *[_normed(downsample_layer(i, o, 4, bias=False), o, slope) for i, o in pairwise(widths)],
            nn.Flatten(),
            _normed(nn.Linear(widths[-1] * prod(base), hidden, bias=False), hidden, slope, flat=True),
        )
        self.gaussian = nn.Linear(hidden, 2 * latent)
        dcgan_weights(self, normalised=True)

    def features(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> [B, hidden], the layer before the output"""
        return self.layers(x)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> z [B, latent]"""
        mean, log_variance = self.gaussian(self.features(x)).chunk(2, 1)
        return mean + (log_variance / 2).exp() * torch.randn_like(mean) if self.training else mean


class Discriminator(nn.Module):
    """D(x, z): convolutions of x, layers of z, and layers of both; each is the larger of two maps. Features are what
    the logit sees.

    dropout_input, dropout_hidden: on x and z, and on what all other layers but x's first see.
    """

    def __init__(
        self,
        latent: PositiveInt,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 32,
        hidden: PositiveInt = 512,
        joint: PositiveInt = 1024,
        dropout_input: Fraction = 0.2,
        dropout_hidden: Fraction = 0.5,
    ) -> None:
        super().__init__()
        count, base = halvings(size)
        widths = [width << k for k in range(count + 1)]
        inner = nn.Dropout(dropout_hidden)
        self.image = nn.Sequential(
            nn.Dropout(dropout_input),
            _Larger(nn.Conv2d(channels, 2 * width, 5, padding=2)),
            *[step for i, o in pairwise(widths) for step in (inner, _Larger(downsample_layer(i, 2 * o, 4, bias=True)))],
            nn.Flatten(),
        )
        self.latent = nn.Sequential(
            nn.Dropout(dropout_input),
            _Larger(nn.Linear(latent, 2 * hidden)),
            inner,
            _Larger(nn.Linear(hidden, 2 * hidden)),
        )
        both = widths[-1] * prod(base) + hidden
        self.joint = nn.Sequential(
            inner, _Larger(nn.Linear(both, 2 * joint)), inner, _Larger(nn.Linear(joint, 2 * joint)), inner
        )
        self.score = nn.Linear(joint, 1)
        dcgan_weights(self, normalised=False)

    def forward(self, x: Tensor, z: Tensor) -> CriticOutput:
        """x [B, C, H, W], z [B, latent] -> score [B], features [B, joint]"""
        features = self.joint(torch.cat([self.image(x), self.latent(z)], 1))
        return CriticOutput(self.score(features).squeeze(1).float(), features=features)


class _Larger(nn.Module):
    """Maxout of two maps. Goodfellow 2013, arXiv:1302.4389, eq. (1)."""

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] -> [B, C, ...], where the map makes 2 C channels"""
        return torch.maximum(*self.linear(x).chunk(2, 1))


def _normed(step: nn.Module, channels: int, slope: float, flat: bool = False) -> nn.Sequential:
    return nn.Sequential(step, norm("batch", channels, flat), nn.LeakyReLU(slope))

"""Multilayer perceptrons: plain ones for points in the plane, and those of the first GAN for images.

`Generator` and `Discriminator` are for points (`model=toy`). Their output is linear, because points are not bounded,
and they compute in full precision: a step of bfloat16 is as large as a Gaussian of the data.

`SigmoidGenerator` and `MaxoutDiscriminator` are the networks of the first GAN (`model=gan`). Widths, dropout and
initial weights are those of the authors' code (goodfeli/adversarial, mnist.yaml). Images are in [-1, 1] instead of
[0, 1]: the generator maps its sigmoid to [-1, 1], the discriminator maps its input to [0, 1].

Reference: Goodfellow 2014, arXiv:1406.2661, section 5.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import log, pi, prod
from typing import Literal

import torch
from torch import Tensor, nn

from oakleaf.config.types import Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from oakleaf.networks import layers
from oakleaf.networks.layers import MapNorm, Maxout, Size, height_width, init_he_, init_uniform_
from oakleaf.networks.minibatch import MinibatchDiscrimination
from oakleaf.round import CriticOutput


class Generator(nn.Module):
    """Generate points, or images without bounds, by leaky ReLU layers and a linear output.

    Args:
        latent: length of the latent vector z.
        channels: channels of an image; of points in the plane, their two coordinates.
        size: image size in pixels; 1 for points.
        hidden: units of the hidden layers.
        slope: negative slope of the leaky ReLUs.
        norm: normalisation before each leaky ReLU.
        sd: standard deviation of the initial weights; null: He's scheme.
    """

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
        widths = [latent, *hidden]
        inner = _linear_layers(widths, norm, lambda: nn.LeakyReLU(slope), bias=norm == "none")
        self.layers = nn.Sequential(*inner, nn.Linear(widths[-1], prod(self.shape)))
        _initialize(self, slope, sd)

    def forward(self, z: Tensor) -> Tensor:
        """Generate points or images.

        Args:
            z: latents [B, latent].

        Returns:
            Images [B, C, H, W], not bounded.
        """
        with _full_precision(z):
            return self.layers(z).unflatten(1, self.shape)


class Discriminator(nn.Module):
    """Score points, or small images, by leaky ReLU or maxout layers and one logit.

    Random Fourier features of the coordinates can be appended to the input. They let the network represent details that
    are much smaller than the range of the coordinates.

    Args:
        channels: channels of an image; of points in the plane, their two coordinates.
        size: image size in pixels; 1 for points.
        hidden: units of the hidden layers.
        slope: negative slope of the leaky ReLUs.
        waves: number of random Fourier features, each a sine and a cosine; 0: none.
        highest: highest frequency of the Fourier features, in periods per unit of length. The lowest is 1/4, and
            frequencies are log-uniform in between.
        minibatch: kernels of minibatch discrimination, whose outputs are appended to the features; 0: none.
        pieces: pieces of maxout layers; 0: leaky ReLU layers.
        sd: standard deviation of the initial weights; null: He's scheme.

    Reference: Fourier features: Tancik 2020, arXiv:2006.10739, section 4; minibatch discrimination: Salimans 2016,
    arXiv:1606.03498, section 3.2; maxout: Goodfellow 2013, arXiv:1302.4389.
    """

    per_sample = True

    frequencies: Tensor  # [inputs, waves], radians per unit of length

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
        self.register_buffer("frequencies", 2 * pi * periods * direction)
        widths = [inputs + 2 * waves, *hidden]
        inner: list[nn.Module] = (
            [Maxout(i, o, pieces) for i, o in pairwise(widths)]
            if pieces
            else _linear_layers(widths, "none", lambda: nn.LeakyReLU(slope))
        )
        self.layers = nn.Sequential(*inner, nn.Linear(widths[-1] + minibatch, 1))
        self.minibatch = MinibatchDiscrimination(widths[-1], minibatch) if minibatch else None
        _initialize(self, slope, sd)

    def forward(self, x: Tensor) -> CriticOutput:
        """Score points or images.

        Args:
            x: images [B, C, H, W].

        Returns:
            Scores [B] and features [B, f], the inputs of the last layer.
        """
        with _full_precision(x):
            x = x.flatten(1)
            phase = x @ self.frequencies
            features = self.layers[:-1](torch.cat([x, phase.sin(), phase.cos()], 1))
            if self.minibatch is not None:
                features = self.minibatch(features)
            return CriticOutput(self.layers[-1](features).squeeze(1).float(), features=features)


class SigmoidGenerator(nn.Module):
    """Generate images by ReLU layers and a sigmoid output.

    Args:
        latent: length of the latent vector z.
        channels: channels of an image.
        size: image size in pixels.
        hidden: units of the hidden layers.
        norm: "batch": batch normalisation before each ReLU, for networks with many layers (EBGAN).

    Reference: Goodfellow 2014, arXiv:1406.2661, section 5; code goodfeli/adversarial, mnist.yaml.
    """

    def __init__(
        self,
        latent: PositiveInt,
        channels: PositiveInt,
        size: Size,
        hidden: tuple[int, ...] = (1200, 1200),
        norm: Literal["batch", "none"] = "none",
    ) -> None:
        super().__init__()
        self.latent, self.shape = latent, (channels, *height_width(size))
        widths = [latent, *hidden]
        inner = _linear_layers(widths, norm, nn.ReLU)
        self.layers = nn.Sequential(*inner, nn.Linear(widths[-1], prod(self.shape)), nn.Sigmoid())
        init_uniform_(self, 0.05)

    def forward(self, z: Tensor) -> Tensor:
        """Generate images.

        Args:
            z: latents [B, latent].

        Returns:
            Images [B, C, H, W] in [-1, 1].
        """
        return 2 * self.layers(z).unflatten(1, self.shape) - 1


class MaxoutDiscriminator(nn.Module):
    """Score images by maxout layers with dropout on their inputs, and one logit.

    Args:
        channels: channels of an image.
        size: image size in pixels.
        hidden: units of the maxout layers.
        pieces: linear functions for each maxout unit.
        dropout_input: dropout probability of the image.
        dropout_hidden: dropout probability of the hidden layers.

    Reference: Goodfellow 2014, arXiv:1406.2661, section 5; code goodfeli/adversarial, mnist.yaml; maxout: Goodfellow
    2013, arXiv:1302.4389.
    """

    per_sample = True

    def __init__(
        self,
        channels: PositiveInt,
        size: Size,
        hidden: tuple[int, ...] = (240, 240),
        pieces: PositiveInt = 5,
        dropout_input: Fraction = 0.2,
        dropout_hidden: Fraction = 0.5,
    ) -> None:
        super().__init__()
        widths = [channels * prod(height_width(size)), *hidden]
        inner: list[nn.Module] = [nn.Dropout(dropout_input)]
        for inputs, units in pairwise(widths):
            inner += [Maxout(inputs, units, pieces), nn.Dropout(dropout_hidden)]
        self.layers = nn.Sequential(*inner, nn.Linear(widths[-1], 1))
        init_uniform_(self, 0.005)

    def forward(self, x: Tensor) -> CriticOutput:
        """Score images.

        Args:
            x: images [B, C, H, W].

        Returns:
            Scores [B] and features [B, f], the inputs of the last layer.
        """
        features = self.layers[:-1]((x.flatten(1) + 1) / 2)
        return CriticOutput(self.layers[-1](features).squeeze(1).float(), features=features)


def _linear_layers(
    widths: Sequence[int], norm: MapNorm, activation: Callable[[], nn.Module], bias: bool = True
) -> list[nn.Module]:
    """Linear layers from each width to the next, each with its normalisation (if any) and activation."""
    stack: list[nn.Module] = []
    for inputs, units in pairwise(widths):
        stack.append(nn.Linear(inputs, units, bias=bias))
        if norm != "none":
            stack.append(layers.norm(norm, units, flat=True))
        stack.append(activation())
    return stack


def _full_precision(x: Tensor) -> torch.autocast:
    """A context in which autocast is disabled."""
    return torch.autocast(x.device.type, enabled=False)


def _initialize(network: nn.Module, slope: float, sd: float | None) -> None:
    """Initialise by He's scheme; then, if sd is given, draw all weights from N(0, sd^2)."""
    init_he_(network, slope)
    for module in network.modules():
        if sd is not None and isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, sd)

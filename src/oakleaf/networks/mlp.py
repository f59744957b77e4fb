"""The multilayer perceptrons of the first GAN. Goodfellow 2014, arXiv:1406.2661, section 5.

Widths, dropout and initial weights are those of the authors' code (goodfeli/adversarial, mnist.yaml). Images are in
[-1, 1] here and were in [0, 1] there: G maps its sigmoid onto [-1, 1], D maps its input back.
"""

from itertools import pairwise
from math import prod
from typing import Literal

from torch import Tensor, nn

from oakleaf.config.types import Fraction, PositiveInt
from oakleaf.networks.layers import Maxout, Size, height_width, uniform_weights
from oakleaf.round import CriticOutput


class Generator(nn.Module):
    """Rectified layers, then a sigmoid for each value of the image.

    norm: batch = before each rectifier, where there are many of them.
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
        layers: list[nn.Module] = []
        for i, o in pairwise(widths):
            layers += [nn.Linear(i, o), *([nn.BatchNorm1d(o)] if norm == "batch" else []), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], prod(self.shape)), nn.Sigmoid())
        uniform_weights(self, 0.05)

    def forward(self, z: Tensor) -> Tensor:
        """z [B, latent] -> [B, C, H, W] in [-1, 1]"""
        return 2 * self.layers(z).unflatten(1, self.shape) - 1


class Discriminator(nn.Module):
    """Two maxout layers with dropout on their inputs (Goodfellow 2013, arXiv:1302.4389), then one logit."""

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
        layers: list[nn.Module] = [nn.Dropout(dropout_input)]
        for inputs, units in pairwise(widths):
            layers += [Maxout(inputs, units, pieces), nn.Dropout(dropout_hidden)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], 1))
        uniform_weights(self, 0.005)

    def forward(self, x: Tensor) -> CriticOutput:
        """x [B, C, H, W] -> score [B], features [B, f]: what the logit sees"""
        features = self.layers[:-1]((x.flatten(1) + 1) / 2)
        return CriticOutput(self.layers[-1](features).squeeze(1).float(), features=features)

"""The perceptrons of the first conditional GAN. Mirza & Osindero 2014, arXiv:1411.1784, section 4.1.

Latent and label have layers of their own before they meet. Widths and initial weights are those of the authors' code
(goodfeli/adversarial's descendant). Images are in [-1, 1] here and were in [0, 1] there.
"""

from math import prod

import torch
from torch import Tensor, nn

from oakleaf.config.types import Fraction, PositiveInt
from oakleaf.networks.layers import AlwaysDropout, Maxout, Size, height_width, uniform_weights
from oakleaf.round import CriticOutput


class Generator(nn.Module):
    """z and y are each rectified, then together, then a sigmoid for each value of the image. With dropout, which stays
    when images are drawn: G takes its variety from it and learns to ignore z, so without it a class has one image.
    """

    def __init__(
        self,
        latent: PositiveInt,
        classes: PositiveInt,
        channels: PositiveInt,
        size: Size,
        noise_units: PositiveInt = 200,
        label_units: PositiveInt = 1000,
        joint_units: PositiveInt = 1200,
        dropout: Fraction = 0.5,
    ) -> None:
        super().__init__()
        self.shape = (channels, *height_width(size))
        self.noise = nn.Sequential(nn.Linear(latent, noise_units), nn.ReLU(), AlwaysDropout(dropout))
        self.label = nn.Sequential(nn.Linear(classes, label_units), nn.ReLU(), AlwaysDropout(dropout))
        self.joint = nn.Sequential(
            nn.Linear(noise_units + label_units, joint_units),
            nn.ReLU(),
            AlwaysDropout(dropout),
            nn.Linear(joint_units, prod(self.shape)),
            nn.Sigmoid(),
        )
        uniform_weights(self, 0.05)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """z [B, latent], y [B, classes] -> [B, C, H, W] in [-1, 1]"""
        inner = torch.cat([self.noise(z), self.label(y)], 1)
        return 2 * self.joint(inner).unflatten(1, self.shape) - 1


class Discriminator(nn.Module):
    """x and y each through maxout (Goodfellow 2013, arXiv:1302.4389), then together, then one logit; with dropout."""

    def __init__(
        self,
        classes: PositiveInt,
        channels: PositiveInt,
        size: Size,
        image_units: PositiveInt = 240,
        label_units: PositiveInt = 50,
        joint_units: PositiveInt = 240,
        dropout: Fraction = 0.5,
    ) -> None:
        super().__init__()
        pixels = channels * prod(height_width(size))
        self.image = nn.Sequential(Maxout(pixels, image_units, pieces=5), nn.Dropout(dropout))
        self.label = nn.Sequential(Maxout(classes, label_units, pieces=5), nn.Dropout(dropout))
        self.joint = nn.Sequential(
            Maxout(image_units + label_units, joint_units, pieces=4), nn.Dropout(dropout), nn.Linear(joint_units, 1)
        )
        uniform_weights(self, 0.005)

    def forward(self, x: Tensor, y: Tensor) -> CriticOutput:
        """x [B, C, H, W], y [B, classes] -> score [B], features [B, f]: what the logit sees"""
        inner = torch.cat([self.image((x.flatten(1) + 1) / 2), self.label(y)], 1)
        features = self.joint[:-1](inner)
        return CriticOutput(self.joint[-1](features).squeeze(1).float(), features=features)

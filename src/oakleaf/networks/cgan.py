"""The multilayer perceptrons of the first conditional GAN.

Latent or image on one side, and label on the other, go through separate layers and then through joint ones. Widths and
initial weights are those of the authors' code (derived from goodfeli/adversarial). Images are in [-1, 1] instead of
[0, 1].

Reference: Mirza & Osindero 2014, arXiv:1411.1784, section 4.1.
"""

from math import prod

import torch
from torch import Tensor, nn

from oakleaf.config.types import Fraction, PositiveInt
from oakleaf.networks.layers import AlwaysDropout, Maxout, Size, height_width, init_uniform_
from oakleaf.round import CriticOutput


class Generator(nn.Module):
    """Generate images from z and the label y: separate ReLU layers, a joint ReLU layer and a sigmoid output.

    Dropout stays active when samples are drawn. The generator learns to take its variety from dropout and to ignore z,
    so that without dropout there would be one image for each class.

    Args:
        latent: length of the latent vector z.
        classes: width of the condition y.
        channels: channels of an image.
        size: image size in pixels.
        noise_units: units of the layer of z.
        label_units: units of the layer of y.
        joint_units: units of the joint layer.
        dropout: dropout probability of all hidden layers.

    Reference: Mirza & Osindero 2014, arXiv:1411.1784, section 4.1.
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
        init_uniform_(self, 0.05)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Generate images.

        Args:
            z: latents [B, latent].
            y: conditions [B, classes].

        Returns:
            Images [B, C, H, W] in [-1, 1].
        """
        inner = torch.cat([self.noise(z), self.label(y)], 1)
        return 2 * self.joint(inner).unflatten(1, self.shape) - 1


class Discriminator(nn.Module):
    """Score images given the label y: separate maxout layers, a joint maxout layer and one logit, with dropout.

    Args:
        classes: width of the condition y.
        channels: channels of an image.
        size: image size in pixels.
        image_units: units of the layer of x.
        label_units: units of the layer of y.
        joint_units: units of the joint layer.
        dropout: dropout probability of all hidden layers.

    Reference: Mirza & Osindero 2014, arXiv:1411.1784, section 4.1; maxout: Goodfellow 2013, arXiv:1302.4389.
    """

    per_sample = True

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
        init_uniform_(self, 0.005)

    def forward(self, x: Tensor, y: Tensor) -> CriticOutput:
        """Score images.

        Args:
            x: images [B, C, H, W].
            y: conditions [B, classes].

        Returns:
            Scores [B] and features [B, f], the inputs of the last layer.
        """
        inner = torch.cat([self.image((x.flatten(1) + 1) / 2), self.label(y)], 1)
        features = self.joint[:-1](inner)
        return CriticOutput(self.joint[-1](features).squeeze(1).float(), features=features)

"""Two small networks for square images whose side is a multiple of 4."""

import torch
from torch import Tensor, nn

from oakleaf.config.types import PositiveInt
from oakleaf.round import GeneratorOutput


class Generator(nn.Module):
    """Map latents to images by a linear layer and two transposed convolutions."""

    def __init__(self, latent: PositiveInt, channels: PositiveInt, size: PositiveInt, width: PositiveInt = 32) -> None:
        super().__init__()
        side = size // 4
        self.mapping = nn.Linear(latent, latent)
        self.layers = nn.Sequential(
            nn.Linear(latent, 2 * width * side * side),
            nn.Unflatten(1, (2 * width, side, side)),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> GeneratorOutput:
        """Map latents z [B, latent] to images [B, channels, size, size] in [-1, 1]; terms can read `w` [B, latent]."""
        w = self.mapping(z).relu()
        return GeneratorOutput(self.layers(w), {"w": w})


class MinibatchStddev(nn.Module):
    """Add a channel with the standard deviation over the batch, averaged over everything else.

    Reference: Karras 2017, arXiv:1710.10196, section 3.
    """

    mixes_images = True  # real and generated images may not go through it as one batch

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C + 1, H, W]."""
        spread = (x.var(0, unbiased=False) + 1e-8).sqrt().mean()
        return torch.cat([x, spread.expand(len(x), 1, *x.shape[2:])], 1)


class Discriminator(nn.Module):
    """Map images to scores by two strided convolutions, a minibatch standard deviation and a linear layer."""

    def __init__(self, channels: PositiveInt, size: PositiveInt, width: PositiveInt = 32) -> None:
        super().__init__()
        side = size // 4
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            MinibatchStddev(),
            nn.Flatten(),
            nn.Linear((2 * width + 1) * side * side, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map images x [B, channels, size, size] to scores [B, 1]; a larger score means more real."""
        return self.layers(x)  # type: ignore[no-any-return]


class SmallDiscriminator(nn.Module):
    """Map images to scores by two linear layers; each image is scored by itself."""

    per_sample = True  # real and generated images may go through it as one batch

    def __init__(self, channels: PositiveInt, size: PositiveInt, width: PositiveInt = 32) -> None:
        super().__init__()
        values = channels * size * size
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(values, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map images x [B, channels, size, size] to scores [B, 1]."""
        return self.layers(x)  # type: ignore[no-any-return]

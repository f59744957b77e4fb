"""Two small networks for square images whose side is a multiple of 4."""

from torch import Tensor, nn

from oakleaf.config.types import PositiveInt
from oakleaf.round import CriticOutput


class Generator(nn.Module):
    """Map latents to images by a linear layer and two transposed convolutions."""

    def __init__(self, latent: PositiveInt, channels: PositiveInt, size: PositiveInt, width: PositiveInt = 32) -> None:
        super().__init__()
        side = size // 4
        self.layers = nn.Sequential(
            nn.Linear(latent, 2 * width * side * side),
            nn.Unflatten(1, (2 * width, side, side)),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Map latents z [B, latent] to images [B, channels, size, size] in [-1, 1]."""
        return self.layers(z)


class Discriminator(nn.Module):
    """Map images to scores by two strided convolutions and a linear layer."""

    def __init__(self, channels: PositiveInt, size: PositiveInt, width: PositiveInt = 32) -> None:
        super().__init__()
        side = size // 4
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(2 * width * side * side, 1),
        )

    def forward(self, x: Tensor) -> CriticOutput:
        """Map images x [B, channels, size, size] to scores [B]; a larger score means more real."""
        return CriticOutput(score=self.layers(x).squeeze(1))

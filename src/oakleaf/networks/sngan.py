"""The standard convolutional networks of spectral normalisation. Miyato 2018, arXiv:1802.05957, appendix B.4, table 3.

The table's images are 32 x 32; others have a stage more or less.
"""

from itertools import pairwise

from torch import Tensor, nn

from oakleaf.config.types import NonNegativeFloat, PositiveInt
from oakleaf.networks.layers import MapNorm, Norm, Size, dcgan_weights, halvings, spectral
from oakleaf.networks.layers import norm as normalised
from oakleaf.round import CriticOutput


class Generator(nn.Module):
    """A fully connected layer to the base, 4 x 4 transposed convolutions to the image's size, one 3 x 3 convolution."""

    def __init__(
        self, latent: PositiveInt, channels: PositiveInt, size: Size, width: PositiveInt = 64, norm: MapNorm = "batch"
    ) -> None:
        super().__init__()
        count, base = halvings(size)
        widths = [width << k for k in reversed(range(count + 1))]  # 512, 256, 128, 64 for 32 x 32
        layers: list[nn.Module] = [
            nn.Linear(latent, widths[0] * base[0] * base[1]),
            nn.Unflatten(1, (widths[0], *base)),
            normalised(norm, widths[0]),
            nn.ReLU(),
        ]
        for i, o in pairwise(widths):
            layers += [nn.ConvTranspose2d(i, o, 4, 2, 1), normalised(norm, o), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], channels, 3, 1, 1), nn.Tanh())
        dcgan_weights(self, normalised=norm != "none")

    def forward(self, z: Tensor) -> Tensor:
        """z [B, latent] -> [B, C, H, W] in [-1, 1]"""
        return self.layers(z)


class Discriminator(nn.Module):
    """In each stage a 3 x 3 convolution and a strided 4 x 4 one; then one 3 x 3 more, and one logit. norm = spectral is
    the paper's.
    """

    def __init__(
        self,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 64,
        norm: Norm = "spectral",
        slope: NonNegativeFloat = 0.1,
    ) -> None:
        super().__init__()
        count, base = halvings(size)
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, 1, 1), nn.LeakyReLU(slope)]
        for k in range(count):  # widths 64, 128, 256, 512 for 32 x 32
            now, then = width << k, width << (k + 1)
            layers += [nn.Conv2d(now, now, 4, 2, 1), normalised(norm, now), nn.LeakyReLU(slope)]
            layers += [nn.Conv2d(now, then, 3, 1, 1), normalised(norm, then), nn.LeakyReLU(slope)]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.score = nn.Linear((width << count) * base[0] * base[1], 1)
        dcgan_weights(self, normalised=norm not in ("spectral", "none"))
        if norm == "spectral":
            spectral(self)

    def forward(self, x: Tensor) -> CriticOutput:
        """x [B, C, H, W] -> score [B], features [B, f]"""
        features = self.layers(x)
        return CriticOutput(self.score(features).squeeze(1).float(), features=features)

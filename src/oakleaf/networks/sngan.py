"""The standard convolutional networks of spectrally normalised GANs.

The paper's images are 32 x 32; for other sizes there are more or fewer stages.

Reference: Miyato 2018, arXiv:1802.05957, appendix B.4, table 3.
"""

from itertools import pairwise

from torch import Tensor, nn

from oakleaf.config.types import NonNegativeFloat, PositiveInt
from oakleaf.networks import layers
from oakleaf.networks.layers import MapNorm, Norm, Size, apply_spectral_norm, dcgan_stages, init_dcgan_
from oakleaf.round import CriticOutput


class Generator(nn.Module):
    """Generate images by a linear layer, 4 x 4 transposed convolutions up to the full size, and a 3 x 3 convolution.

    Args:
        latent: length of the latent vector z.
        channels: channels of an image.
        size: image size in pixels.
        width: channels at full size; they double with each halving.
        norm: normalisation of all layers but the last.

    Reference: Miyato 2018, arXiv:1802.05957, appendix B.4, table 3.
    """

    def __init__(
        self, latent: PositiveInt, channels: PositiveInt, size: Size, width: PositiveInt = 64, norm: MapNorm = "batch"
    ) -> None:
        super().__init__()
        count, base = dcgan_stages(size)
        widths = [width << k for k in reversed(range(count + 1))]  # 512, 256, 128, 64 for 32 x 32
        stack: list[nn.Module] = [
            nn.Linear(latent, widths[0] * base[0] * base[1]),
            nn.Unflatten(1, (widths[0], *base)),
            layers.norm(norm, widths[0]),
            nn.ReLU(),
        ]
        for i, o in pairwise(widths):
            stack += [nn.ConvTranspose2d(i, o, 4, 2, 1), layers.norm(norm, o), nn.ReLU()]
        self.layers = nn.Sequential(*stack, nn.Conv2d(widths[-1], channels, 3, 1, 1), nn.Tanh())
        init_dcgan_(self, normalised=norm != "none")

    def forward(self, z: Tensor) -> Tensor:
        """Generate images.

        Args:
            z: latents [B, latent].

        Returns:
            Images [B, C, H, W] in [-1, 1].
        """
        return self.layers(z)


class Discriminator(nn.Module):
    """Score images: a 3 x 3 convolution, stages of a strided 4 x 4 and a 3 x 3 convolution, and one logit.

    Args:
        channels: channels of an image.
        size: image size in pixels.
        width: channels at full size; they double with each halving.
        norm: "spectral", as in the paper, or a normalisation of all maps but the first.
        slope: negative slope of the leaky ReLUs.

    Reference: Miyato 2018, arXiv:1802.05957, appendix B.4, table 3.
    """

    per_sample = True

    def __init__(
        self,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 64,
        norm: Norm = "spectral",
        slope: NonNegativeFloat = 0.1,
    ) -> None:
        super().__init__()
        count, base = dcgan_stages(size)
        stack: list[nn.Module] = [nn.Conv2d(channels, width, 3, 1, 1), nn.LeakyReLU(slope)]
        for k in range(count):  # widths 64, 128, 256, 512 for 32 x 32
            inputs, outputs = width << k, width << (k + 1)
            stack += [nn.Conv2d(inputs, inputs, 4, 2, 1), layers.norm(norm, inputs), nn.LeakyReLU(slope)]
            stack += [nn.Conv2d(inputs, outputs, 3, 1, 1), layers.norm(norm, outputs), nn.LeakyReLU(slope)]
        self.layers = nn.Sequential(*stack, nn.Flatten())
        self.score = nn.Linear((width << count) * base[0] * base[1], 1)
        init_dcgan_(self, normalised=norm not in ("spectral", "none"))
        if norm == "spectral":
            apply_spectral_norm(self)

    def forward(self, x: Tensor) -> CriticOutput:
        """Score images.

        Args:
            x: images [B, C, H, W].

        Returns:
            Scores [B] and features [B, f], the inputs of the last layer.
        """
        features = self.layers(x)
        return CriticOutput(self.score(features).squeeze(1).float(), features=features)

"""Auto-encoders whose decoder is the generator."""

from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from oakleaf.config.types import NonNegativeFloat, NonNegativeInt, PositiveInt
from oakleaf.networks.layers import MapNorm, Size, dcgan_stages, init_dcgan_, norm


class Encoder(nn.Module):
    """Encode images by strided convolutions, as in DCGAN's discriminator, and one linear layer.

    Args:
        code: length of the output; a variational auto-encoder needs twice the length of the latent vector.
        channels: channels of an image.
        size: image size in pixels.
        width: channels after the first convolution; they double with each further one.
        kernel: kernel size in pixels.
        norm: normalisation after each convolution.
        slope: negative slope of the leaky ReLUs.
        hidden: units of a fully connected layer before the code; 0: none.
    """

    def __init__(
        self,
        code: PositiveInt,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 64,
        kernel: PositiveInt = 4,
        norm: MapNorm = "batch",
        slope: NonNegativeFloat = 0.2,
        hidden: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        count, base = dcgan_stages(size)
        widths = [channels, *(width << k for k in range(count))]  # e.g. 1, 64, 128
        stages = [_stage(i, o, kernel, norm, slope) for i, o in pairwise(widths)]
        features = widths[-1] * prod(base)
        connected = [nn.Linear(features, hidden), nn.LeakyReLU(slope)] if hidden else []
        self.layers = nn.Sequential(*stages, nn.Flatten(), *connected, nn.Linear(hidden or features, code))
        init_dcgan_(self, normalised=norm != "none")

    def forward(self, x: Tensor) -> Tensor:
        """Encode images.

        Args:
            x: images [B, C, H, W].

        Returns:
            Codes [B, code].
        """
        return self.layers(x).to(x.dtype)  # type: ignore[no-any-return]


def _stage(inputs: int, outputs: int, kernel: int, kind: MapNorm, slope: float) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, kernel, 2, (kernel - 1) // 2, bias=kind == "none")
    return nn.Sequential(convolution, norm(kind, outputs), nn.LeakyReLU(slope))


class AutoEncoder(nn.Module):
    """Combine an encoder and a decoder; the decoder generates images from codes.

    Args:
        encoder: maps images [B, C, H, W] to codes [B, latent].
        decoder: maps codes [B, latent] to images [B, C, H, W].
        latent: length of a code.

    Reference: Rumelhart 1986; Hinton & Salakhutdinov 2006, doi:10.1126/science.1127647.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, latent: PositiveInt) -> None:
        super().__init__()
        self.encoder, self.decoder, self.latent = encoder, decoder, latent

    def forward(self, z: Tensor) -> Tensor:
        """Decode codes.

        Args:
            z: codes [B, latent].

        Returns:
            Images [B, C, H, W] in [-1, 1].
        """
        return self.decoder(z)  # type: ignore[no-any-return]

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Encode images.

        Args:
            x: images [B, C, H, W].

        Returns:
            `latent`: codes [B, latent].
        """
        return {"latent": self.encoder(x)}


class VariationalAutoEncoder(AutoEncoder):
    """Encode images by a Gaussian q(z | x) = N(mean, diag(exp(log_variance))), from which the code is sampled.

    Args:
        encoder: maps images [B, C, H, W] to means and log-variances [B, 2 latent], the means first.
        decoder: maps codes [B, latent] to images [B, C, H, W].
        latent: length of a code.

    Reference: Kingma & Welling 2013, arXiv:1312.6114, eq. (9).
    """

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Encode images and sample their codes.

        Args:
            x: images [B, C, H, W].

        Returns:
            `latent` (the sampled codes), `mean` and `log_variance`, each [B, latent].
        """
        mean, log_variance = self.encoder(x).chunk(2, 1)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        return {"latent": z, "mean": mean, "log_variance": log_variance}

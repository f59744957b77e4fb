"""Auto-encoders: the generator is their decoder."""

from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from oakleaf.config.types import NonNegativeFloat, PositiveInt
from oakleaf.networks.layers import MapNorm, Size, dcgan_weights, halvings, norm


class Encoder(nn.Module):
    """Halves the image down to its base, as DCGAN's discriminator does; the last map goes to `code` numbers."""

    def __init__(
        self,
        code: PositiveInt,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 64,
        kernel: PositiveInt = 4,
        norm: MapNorm = "batch",
        slope: NonNegativeFloat = 0.2,
    ) -> None:
        super().__init__()
        count, base = halvings(size)
        widths = [channels, *(width << k for k in range(count))]  # e.g. 1, 64, 128
        stages = [_stage(i, o, kernel, norm, slope) for i, o in pairwise(widths)]
        self.layers = nn.Sequential(*stages, nn.Flatten(), nn.Linear(widths[-1] * prod(base), code))
        dcgan_weights(self, normalised=norm != "none")

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> [B, code]"""
        return self.layers(x).to(x.dtype)  # type: ignore[no-any-return]


def _stage(inputs: int, outputs: int, kernel: int, kind: MapNorm, slope: float) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, kernel, 2, (kernel - 1) // 2, bias=kind == "none")
    return nn.Sequential(convolution, norm(kind, outputs), nn.LeakyReLU(slope))


class AutoEncoder(nn.Module):
    """encoder: images -> codes [B, c]; decoder: codes -> images. Rumelhart 1986; Hinton & Salakhutdinov 2006,
    doi:10.1126/science.1127647."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, latent: PositiveInt) -> None:
        super().__init__()
        self.encoder, self.decoder, self.latent = encoder, decoder, latent

    def forward(self, z: Tensor) -> Tensor:
        """codes z [B, latent] -> images [B, C, H, W] in [-1, 1]"""
        return self.decoder(z)  # type: ignore[no-any-return]

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """images -> `latent` [B, latent]"""
        return {"latent": self.encoder(x)}


class VariationalAutoEncoder(AutoEncoder):
    """The encoder gives a Gaussian q(z | x) = N(mean, diag(exp(log_variance))), as means and then log-variances
    [B, 2 latent]; the code is drawn from it. Kingma & Welling 2013, arXiv:1312.6114, eq. (9).
    """

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """images -> `latent`, `mean` and `log_variance` [B, latent]"""
        mean, log_variance = self.encoder(x).chunk(2, 1)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        return {"latent": z, "mean": mean, "log_variance": log_variance}

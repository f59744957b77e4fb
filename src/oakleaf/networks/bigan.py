"""The perceptrons of BiGAN's permutation-invariant MNIST. Donahue 2016, arXiv:1605.09782, section 4.2.

Widths, where z enters and what is normalised are those of the authors' code (jeffdonahue/bigan,
net.py: mnist_mlp): normalisation has no gain and no bias, and where there is one no layer has a bias. Images are in
[-1, 1] here and were in [0, 1] there, and the score's weights begin as N(0, 0.02) and did at 0.
"""

from itertools import pairwise
from math import prod

from torch import Tensor, nn

from oakleaf.config.types import NonNegativeFloat, PositiveInt
from oakleaf.networks.layers import MapNorm, Norm, Size, concat_condition, dcgan_weights, height_width, norm, spectral
from oakleaf.round import CriticOutput


class Generator(nn.Module):
    """Rectified layers that see z each, then a sigmoid for each value of the image."""

    def __init__(
        self,
        latent: PositiveInt,
        channels: PositiveInt,
        size: Size,
        hidden: tuple[int, ...] = (1024, 1024),
        norm: MapNorm = "batch",
    ) -> None:
        super().__init__()
        self.shape = (channels, *height_width(size))
        self.first = _layer(latent, hidden[0], norm, nn.ReLU())
        self.layers = nn.ModuleList([_layer(i + latent, o, norm, nn.ReLU()) for i, o in pairwise(hidden)])
        self.image = nn.Linear(hidden[-1], prod(self.shape), bias=_has_bias(norm))
        dcgan_weights(self, normalised=not _has_bias(norm))

    def forward(self, z: Tensor) -> Tensor:
        """z [B, latent] -> [B, C, H, W] in [-1, 1]"""
        inner = self.first(z)
        for layer in self.layers:
            inner = layer(concat_condition(inner, z))
        return 2 * self.image(inner).sigmoid().unflatten(1, self.shape) - 1


class Encoder(nn.Module):
    """Leaky layers, all but the first of them normalised, then z: by a sigmoid onto [low, high], where a prior has
    such bounds.
    """

    def __init__(
        self,
        latent: PositiveInt,
        channels: PositiveInt,
        size: Size,
        hidden: tuple[int, ...] = (1024, 1024),
        norm: MapNorm = "batch",
        slope: NonNegativeFloat = 0.2,
        low: float | None = None,
        high: float | None = None,
    ) -> None:
        super().__init__()
        self.bounds = None if low is None or high is None else (low, high)
        widths = [channels * prod(height_width(size)), *hidden]
        kinds: list[Norm] = ["none", *[norm] * (len(hidden) - 1)]
        bias = _has_bias(norm)
        layers = [_layer(i, o, kind, nn.LeakyReLU(slope), bias) for (i, o), kind in zip(pairwise(widths), kinds)]
        self.layers = nn.Sequential(*layers)
        self.latent = nn.Linear(hidden[-1], latent, bias=bias)
        dcgan_weights(self, normalised=not bias)

    def features(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> [B, f], the layer before the output"""
        return self.layers((x.flatten(1) + 1) / 2)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> z [B, latent]"""
        z: Tensor = self.latent(self.features(x))
        if self.bounds is None:
            return z
        low, high = self.bounds
        return low + (high - low) * z.sigmoid()


class Discriminator(nn.Module):
    """The encoder's layers, of which all but the first see z as well; then one logit. Features are what it sees."""

    def __init__(
        self,
        latent: PositiveInt,
        channels: PositiveInt,
        size: Size,
        hidden: tuple[int, ...] = (1024, 1024),
        norm: Norm = "batch",
        slope: NonNegativeFloat = 0.2,
    ) -> None:
        super().__init__()
        bias, activation = _has_bias(norm), nn.LeakyReLU(slope)
        self.first = _layer(channels * prod(height_width(size)), hidden[0], "none", activation, bias)
        self.layers = nn.ModuleList([_layer(i + latent, o, norm, activation) for i, o in pairwise(hidden)])
        self.score = nn.Linear(hidden[-1], 1, bias=bias)
        dcgan_weights(self, normalised=not bias)
        if norm == "spectral":
            spectral(self)

    def forward(self, x: Tensor, z: Tensor) -> CriticOutput:
        """x [B, C, H, W], z [B, latent] -> score [B], features [B, f]"""
        inner = self.first((x.flatten(1) + 1) / 2)
        for layer in self.layers:
            inner = layer(concat_condition(inner, z))
        return CriticOutput(self.score(inner).squeeze(1).float(), features=inner)


def _layer(inputs: int, units: int, kind: Norm, activation: nn.Module, bias: bool | None = None) -> nn.Sequential:
    bias = _has_bias(kind) if bias is None else bias
    return nn.Sequential(nn.Linear(inputs, units, bias=bias), norm(kind, units, True, affine=False), activation)


def _has_bias(kind: Norm) -> bool:
    return kind in ("none", "spectral")

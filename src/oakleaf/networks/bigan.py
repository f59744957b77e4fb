"""The multilayer perceptrons of BiGAN's permutation-invariant MNIST.

Widths, the layers that z enters, and what is normalised are those of the authors' code. Normalisation has no gain and
no bias, and in a network with normalisation no layer has a bias. Two things differ from that code: images are in
[-1, 1] instead of [0, 1], and the weights of the score are initialised from N(0, 0.02) instead of 0.

Reference: Donahue 2016, arXiv:1605.09782, section 4.2; code jeffdonahue/bigan, net.py: mnist_mlp.
"""

from itertools import pairwise
from math import prod

from torch import Tensor, nn

from oakleaf.config.types import NonNegativeFloat, PositiveInt
from oakleaf.networks.layers import (
    MapNorm,
    Norm,
    Size,
    apply_spectral_norm,
    concat_condition,
    height_width,
    init_dcgan_,
    norm,
)
from oakleaf.round import CriticOutput


class Generator(nn.Module):
    """Generate images by ReLU layers, each of which also receives z, and a sigmoid output.

    Args:
        latent: length of the latent vector z.
        channels: channels of an image.
        size: image size in pixels.
        hidden: units of the hidden layers.
        norm: normalisation of the hidden layers.

    Reference: Donahue 2016, arXiv:1605.09782, section 4.2.
    """

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
        init_dcgan_(self, normalised=not _has_bias(norm))

    def forward(self, z: Tensor) -> Tensor:
        """Generate images.

        Args:
            z: latents [B, latent].

        Returns:
            Images [B, C, H, W] in [-1, 1].
        """
        inner = self.first(z)
        for layer in self.layers:
            inner = layer(concat_condition(inner, z))
        return 2 * self.image(inner).sigmoid().unflatten(1, self.shape) - 1


class Encoder(nn.Module):
    """Encode images by leaky ReLU layers; all hidden layers but the first are normalised.

    Args:
        latent: length of the latent vector z.
        channels: channels of an image.
        size: image size in pixels.
        hidden: units of the hidden layers.
        norm: normalisation of the hidden layers.
        slope: negative slope of the leaky ReLUs.
        low: lower bound of z, as in the prior; null: z is not bounded.
        high: upper bound of z; null: z is not bounded. With both bounds z is mapped into [low, high] by a sigmoid.

    Reference: Donahue 2016, arXiv:1605.09782, section 4.2.
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
        init_dcgan_(self, normalised=not bias)

    def features(self, x: Tensor) -> Tensor:
        """Compute the features of the layer before the output.

        Args:
            x: images [B, C, H, W].

        Returns:
            Features [B, f].
        """
        return self.layers((x.flatten(1) + 1) / 2)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Encode images.

        Args:
            x: images [B, C, H, W].

        Returns:
            Latents z [B, latent].
        """
        z: Tensor = self.latent(self.features(x))
        if self.bounds is None:
            return z
        low, high = self.bounds
        return low + (high - low) * z.sigmoid()


class Discriminator(nn.Module):
    """Score pairs (x, z) by leaky ReLU layers; all hidden layers but the first also receive z.

    Args:
        latent: length of the latent vector z.
        channels: channels of an image.
        size: image size in pixels.
        hidden: units of the hidden layers.
        norm: normalisation of all hidden layers but the first, or of the weights ("spectral").
        slope: negative slope of the leaky ReLUs.

    Reference: Donahue 2016, arXiv:1605.09782, section 4.2.
    """

    per_sample = True

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
        init_dcgan_(self, normalised=not bias)
        if norm == "spectral":
            apply_spectral_norm(self)

    def forward(self, x: Tensor, z: Tensor) -> CriticOutput:
        """Score pairs of image and latent.

        Args:
            x: images [B, C, H, W].
            z: latents [B, latent].

        Returns:
            Scores [B] and features [B, f], the inputs of the last layer.
        """
        inner = self.first((x.flatten(1) + 1) / 2)
        for layer in self.layers:
            inner = layer(concat_condition(inner, z))
        return CriticOutput(self.score(inner).squeeze(1).float(), features=inner)


def _layer(inputs: int, units: int, kind: Norm, activation: nn.Module, bias: bool | None = None) -> nn.Sequential:
    bias = _has_bias(kind) if bias is None else bias
    return nn.Sequential(nn.Linear(inputs, units, bias=bias), norm(kind, units, True, affine=False), activation)


def _has_bias(kind: Norm) -> bool:
    return kind in ("none", "spectral")

"""From text to image by deep convolutional networks. Reed 2016, arXiv:1605.05396, section 4.1: each player squeezes the
text by a layer of its own; D sees it beside its last map.
"""

from itertools import pairwise
from math import prod

from torch import Tensor, nn
from torch.nn import functional

from oakleaf.config.types import NonNegativeFloat, NonNegativeInt, PositiveInt
from oakleaf.networks import dcgan, layers
from oakleaf.networks.layers import Bottleneck, MapNorm, Norm, Size, concat_condition, dcgan_weights, halvings, spectral
from oakleaf.round import CriticOutput


class Embedding(nn.Linear):
    """A linear map of a text's direction, y / |y|, whose weights begin as N(0, 1), as those of embeddings do. So a text
    is as loud as the noise or an image's features beside it; with the weights of a layer it would hardly be heard.
    """

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, y: Tensor) -> Tensor:
        return super().forward(functional.normalize(y, dim=1))


class CompressedText(nn.Sequential):
    """A text y [B, condition_width] as [B, units]: one linear map and LeakyReLU (section 4.1)."""

    def __init__(self, condition_width: int, units: int, slope: float = 0.2) -> None:
        super().__init__(Embedding(condition_width, units), nn.LeakyReLU(slope))


class Generator(nn.Module):
    """The squeezed text beside z, then a DCGAN's generator, of whose maps the smallest go through residual `blocks`
    (the authors' code: 2); condition_width: width of y, text: of what it is squeezed to.
    """

    def __init__(
        self,
        latent: PositiveInt,
        condition_width: PositiveInt,
        channels: PositiveInt,
        size: Size,
        text: PositiveInt = 128,
        width: PositiveInt = 64,
        kernel: PositiveInt = 4,
        norm: MapNorm = "batch",
        upsample: dcgan.Upsample = "transposed",
        blocks: NonNegativeInt = 2,
    ) -> None:
        super().__init__()
        self.text = CompressedText(condition_width, text)
        self.images = dcgan.Generator(
            latent, channels, size, width, kernel, norm, upsample, classes=text, blocks=blocks
        )

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """z [B, latent], y [B, condition_width] -> [B, C, H, W] in [-1, 1]"""
        return self.images(z, self.text(y))


class Discriminator(nn.Module):
    """Halves the image down to its base of 4 to 7 pixels, which goes through residual `blocks` (the authors' code: 1);
    there the squeezed text stands beside each pixel; then a 1 x 1 convolution and one logit.
    """

    def __init__(
        self,
        condition_width: PositiveInt,
        channels: PositiveInt,
        size: Size,
        text: PositiveInt = 128,
        width: PositiveInt = 64,
        kernel: PositiveInt = 4,
        norm: Norm = "batch",
        slope: NonNegativeFloat = 0.2,
        blocks: NonNegativeInt = 1,
    ) -> None:
        super().__init__()
        count, base = halvings(size)
        widths = [width << k for k in range(count)]
        bias = norm in ("none", "spectral")
        stages = [dcgan.downsample_layer(channels, width, kernel, True), nn.LeakyReLU(slope)]
        for i, o in pairwise(widths):
            stages += [dcgan.downsample_layer(i, o, kernel, bias), layers.norm(norm, o), nn.LeakyReLU(slope)]
        last = widths[-1]
        if blocks:  # each ends in the stage's activation
            stages[-1:] = [Bottleneck(last, norm, nn.LeakyReLU(slope)) for _ in range(blocks)]
        self.image = nn.Sequential(*stages)
        self.joint = nn.Sequential(
            nn.Conv2d(last + text, last, 1, bias=bias), layers.norm(norm, last), nn.LeakyReLU(slope), nn.Flatten()
        )
        self.score = nn.Linear(last * prod(base), 1)
        dcgan_weights(self, normalised=not bias)
        self.text = CompressedText(condition_width, text, slope)
        if norm == "spectral":
            spectral(self)

    def forward(self, x: Tensor, y: Tensor) -> CriticOutput:
        """x [B, C, H, W], y [B, condition_width] -> score [B], features [B, f]"""
        features = self.joint(concat_condition(self.image(x), self.text(y)))
        return CriticOutput(self.score(features).squeeze(1).float(), features=features)

"""Deep convolutional networks from text to image.

Each network has its own projection of the text. G appends it to z; D appends it to each pixel of its last map.

Reference: Reed 2016 (GAN-INT-CLS), arXiv:1605.05396, section 4.1.
"""

from itertools import pairwise
from math import prod

from torch import Tensor, nn
from torch.nn import functional

from oakleaf.config.types import NonNegativeFloat, NonNegativeInt, PositiveInt
from oakleaf.networks import dcgan, layers
from oakleaf.networks.layers import (
    Bottleneck,
    MapNorm,
    Norm,
    Size,
    apply_spectral_norm,
    concat_condition,
    dcgan_stages,
    init_dcgan_,
)
from oakleaf.round import CriticOutput


class TextEmbedding(nn.Linear):
    """A linear layer on the direction of a text vector, y / |y|, with initial weights from N(0, 1) as in an embedding.

    With these weights the output has a variance near 1, as the noise or the image features that it is appended to. With
    the usual initial weights of a linear layer it would be too small to have an effect.
    """

    def reset_parameters(self) -> None:
        """Draw the weights from N(0, 1) and set the biases to 0."""
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, y: Tensor) -> Tensor:
        """Embed text vectors [B, inputs] as [B, units]."""
        return super().forward(functional.normalize(y, dim=1))


class TextProjection(nn.Sequential):
    """Project a text to fewer dimensions by a `TextEmbedding` and a leaky ReLU.

    The input is y [B, condition_width], the output [B, units].

    Args:
        condition_width: width of the condition y.
        units: length of the projection.
        slope: negative slope of the leaky ReLU.

    Reference: Reed 2016, arXiv:1605.05396, section 4.1.
    """

    def __init__(self, condition_width: int, units: int, slope: float = 0.2) -> None:
        super().__init__(TextEmbedding(condition_width, units), nn.LeakyReLU(slope))


class Generator(nn.Module):
    """Generate images from z and a text: DCGAN's generator on z with the projected text appended to it.

    Args:
        latent: length of the latent vector z.
        condition_width: width of the condition y.
        channels: channels of an image.
        size: image size in pixels.
        text: length of the projected text.
        width: channels of the last map before the image.
        kernel: kernel size in pixels.
        norm: normalisation of all layers but the output.
        upsample: how a map is doubled; see `dcgan.upsample_layer`.
        blocks: number of maps that go through a residual block, the smallest first; 2 in the authors' code.

    Reference: Reed 2016, arXiv:1605.05396, section 4.1.
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
        self.text = TextProjection(condition_width, text)
        self.images = dcgan.Generator(
            latent, channels, size, width, kernel, norm, upsample, classes=text, blocks=blocks
        )

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Generate images.

        Args:
            z: latents [B, latent].
            y: text vectors [B, condition_width].

        Returns:
            Images [B, C, H, W] in [-1, 1].
        """
        return self.images(z, self.text(y))


class Discriminator(nn.Module):
    """Score images given a text: strided convolutions, a joint 1 x 1 convolution and one logit.

    Convolutions halve the image down to a map of 4 to 7 pixels, which goes through residual blocks. The projected text
    is appended to each pixel of that map.

    Args:
        condition_width: width of the condition y.
        channels: channels of an image.
        size: image size in pixels.
        text: length of the projected text.
        width: channels of the first map.
        kernel: kernel size in pixels.
        norm: normalisation of all layers but the first, or of the weights ("spectral").
        slope: negative slope of the leaky ReLUs.
        blocks: number of residual blocks at the smallest map; 1 in the authors' code.

    Reference: Reed 2016, arXiv:1605.05396, section 4.1.
    """

    per_sample = True

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
        count, base = dcgan_stages(size)
        widths = [width << k for k in range(count)]
        bias = norm in ("none", "spectral")
        stages = [dcgan.downsample_layer(channels, width, kernel, True), nn.LeakyReLU(slope)]
        for i, o in pairwise(widths):
            stages += [dcgan.downsample_layer(i, o, kernel, bias), layers.norm(norm, o), nn.LeakyReLU(slope)]
        last = widths[-1]
        if blocks:  # a block ends in an activation, so the first one is applied before that of the last stage
            stages[-1:] = [Bottleneck(last, norm, nn.LeakyReLU(slope)) for _ in range(blocks)]
        self.image = nn.Sequential(*stages)
        self.joint = nn.Sequential(
            nn.Conv2d(last + text, last, 1, bias=bias), layers.norm(norm, last), nn.LeakyReLU(slope), nn.Flatten()
        )
        self.score = nn.Linear(last * prod(base), 1)
        init_dcgan_(self, normalised=not bias)
        self.text = TextProjection(condition_width, text, slope)
        if norm == "spectral":
            apply_spectral_norm(self)

    def forward(self, x: Tensor, y: Tensor) -> CriticOutput:
        """Score images.

        Args:
            x: images [B, C, H, W].
            y: text vectors [B, condition_width].

        Returns:
            Scores [B] and features [B, f], the inputs of the last layer.
        """
        features = self.joint(concat_condition(self.image(x), self.text(y)))
        return CriticOutput(self.score(features).squeeze(1).float(), features=features)

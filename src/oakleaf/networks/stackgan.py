"""The generators of StackGAN, which go from text to image in two stages.

Both stages use the discriminator of `text`.

Reference: Zhang 2016, arXiv:1612.03242.
"""

import math
from itertools import pairwise

from torch import Tensor, nn

from oakleaf.config.types import NonNegativeInt, PositiveInt
from oakleaf.errors import UserError
from oakleaf.networks import dcgan, layers
from oakleaf.networks.layers import MapNorm, Norm, Size, concat_condition, height_width, init_dcgan_
from oakleaf.networks.resnet import Residual
from oakleaf.networks.text import TextEmbedding

# initial standard deviation of c; with 1, its noise hid the text before the generator used it (docs/zoo/words.md)
INITIAL_SD = 0.1


class ConditioningAugmentation(nn.Module):
    """Turn a text y into a random vector c = mu(y) + sd(y) * eps.

    Mean and log standard deviation come from one linear layer, as in section 3.2. In the authors' code a leaky ReLU
    follows, with which the standard deviation hardly falls below 1.

    Args:
        condition_width: width of the condition y.
        text: length of c.

    Reference: Zhang 2016, arXiv:1612.03242, section 3.2.
    """

    def __init__(self, condition_width: int, text: int) -> None:
        super().__init__()
        self.text = text
        self.gaussian = TextEmbedding(condition_width, 2 * text)
        nn.init.zeros_(self.gaussian.weight.data[text:])
        nn.init.constant_(self.gaussian.bias.data[text:], math.log(INITIAL_SD))

    def forward(self, y: Tensor, eps: Tensor) -> Tensor:
        """Compute c.

        Args:
            y: text vectors [B, condition_width].
            eps: noise [B, text] from N(0, I).

        Returns:
            c [B, text].
        """
        mean, log_sd = self.gaussian(y).chunk(2, 1)
        return mean + log_sd.exp() * eps

    def divergence(self, y: Tensor) -> Tensor:
        """Compute KL(N(mu, sd^2) || N(0, I)) of each text, eq. (2).

        Args:
            y: text vectors [B, condition_width].

        Returns:
            Divergences [B], in nats.
        """
        mean, log_sd = self.gaussian(y).float().chunk(2, 1)
        return (0.5 * ((2 * log_sd).exp() + mean.square() - 1) - log_sd).sum(1)


class StageOneGenerator(nn.Module):
    """Generate the small images of stage I: DCGAN's generator on the noise with c appended to it.

    z holds the noise and, as its last `text` numbers, the eps of c, so that given latents always give the same images.

    Args:
        latent: length of the latent vector z, more than `text`.
        condition_width: width of the condition y.
        channels: channels of an image.
        size: image size of stage I in pixels.
        text: length of c.
        width: channels of the last map before the image.
        kernel: kernel size in pixels.
        norm: normalisation of all layers but the output.
        upsample: how a map is doubled; see `dcgan.upsample_layer`.
        blocks: number of maps that go through a residual block, the smallest first; 2 in the authors' code.

    Raises:
        UserError: z has no numbers for the noise.

    Reference: Zhang 2016, arXiv:1612.03242, section 3.3.
    """

    def __init__(
        self,
        latent: PositiveInt,
        condition_width: PositiveInt,
        channels: PositiveInt,
        size: Size,
        text: PositiveInt = 128,
        width: PositiveInt = 64,
        kernel: PositiveInt = 3,
        norm: MapNorm = "batch",
        upsample: dcgan.Upsample = "nearest",
        blocks: NonNegativeInt = 2,
    ) -> None:
        super().__init__()
        _check_latent(latent, text)
        self.latent, self.text = latent, text
        self.augmentation = ConditioningAugmentation(condition_width, text)
        self.images = dcgan.Generator(
            latent - text, channels, size, width, kernel, norm, upsample, classes=text, blocks=blocks
        )

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Generate images of stage I.

        Args:
            z: latents [B, latent].
            y: text vectors [B, condition_width].

        Returns:
            Images [B, C, h, w] in [-1, 1].
        """
        noise, eps = z[:, : -self.text], z[:, -self.text :]
        return self.images(noise, self.augmentation(y, eps))


class StageTwoGenerator(nn.Module):
    """Generate the large images of stage II from those of stage I and the text.

    The image of stage I is halved twice. A c of its own is appended to each pixel of that map, which then goes through
    residual blocks and is doubled up to the full size. The last `text` numbers of z are the eps of c.

    Args:
        latent: length of the latent vector z, more than `text`.
        condition_width: width of the condition y.
        channels: channels of an image.
        size: image size of stage II in pixels.
        small: image size of stage I in pixels.
        text: length of c.
        width: channels of the first map; it doubles with each halving.
        blocks: number of residual blocks.
        kernel: kernel size of the upsampling layers in pixels.
        norm: normalisation of all layers but the first and the last.
        upsample: how a map is doubled; see `dcgan.upsample_layer`.

    Raises:
        UserError: z has no numbers for the noise, or the sizes do not fit; see `count_doublings`.

    Reference: Zhang 2016, arXiv:1612.03242, section 3.4.
    """

    def __init__(
        self,
        latent: PositiveInt,
        condition_width: PositiveInt,
        channels: PositiveInt,
        size: Size,
        small: Size,
        text: PositiveInt = 128,
        width: PositiveInt = 64,
        blocks: PositiveInt = 2,
        kernel: PositiveInt = 3,
        norm: MapNorm = "batch",
        upsample: dcgan.Upsample = "nearest",
    ) -> None:
        super().__init__()
        _check_latent(latent, text)
        self.text = text
        last, bias = 4 * width, norm == "none"
        inner = dcgan.downsample_layer(width, 2 * width, 4, bias), dcgan.downsample_layer(2 * width, last, 4, bias)
        self.image = nn.Sequential(
            nn.Conv2d(channels, width, 3, 1, 1),
            nn.ReLU(),
            *_normalised(inner[0], norm, 2 * width),
            *_normalised(inner[1], norm, last),
        )
        self.joint = nn.Sequential(
            *_normalised(nn.Conv2d(last + text, last, 3, 1, 1, bias=bias), norm, last),
            *(Residual(last, norm) for _ in range(blocks)),
        )
        widths = [max(last >> k, width // 2, 1) for k in range(2 + count_doublings(size, small) + 1)]
        ups = [_normalised(dcgan.upsample_layer(i, o, kernel, upsample, bias), norm, o) for i, o in pairwise(widths)]
        self.upsampling = nn.Sequential(
            *(layer for up in ups for layer in up), nn.Conv2d(widths[-1], channels, 3, 1, 1), nn.Tanh()
        )
        init_dcgan_(self, normalised=not bias)
        self.augmentation = ConditioningAugmentation(condition_width, text)

    def forward(self, z: Tensor, y: Tensor, image: Tensor) -> Tensor:
        """Generate images of stage II.

        Args:
            z: latents [B, latent], of which the last `text` numbers are used.
            y: text vectors [B, condition_width].
            image: images of stage I [B, C, h, w].

        Returns:
            Images [B, C, H, W] in [-1, 1].
        """
        c = self.augmentation(y, z[:, -self.text :])
        return self.upsampling(self.joint(concat_condition(self.image(image), c)))


def count_doublings(size: Size, small: Size) -> int:
    """Compute how often the images of stage I have to be doubled.

    Args:
        size: image size of stage II in pixels.
        small: image size of stage I in pixels.

    Returns:
        The number of doublings, at least 1.

    Raises:
        UserError: `size` is not `small` times a power of two, or a side of `small` is not divisible by 4.
    """
    (height, width), (h, w) = height_width(size), height_width(small)
    count = round(math.log2(height / h)) if h else 0
    if count < 1 or (h << count, w << count) != (height, width) or h % 4 or w % 4:
        raise UserError(
            f"data.size={size}: images of stage II must be 2, 4, ... times as large as those of stage I, which are "
            f"{small} pixels, and both sides of stage I must be multiples of 4"
        )
    return count


def _check_latent(latent: int, text: int) -> None:
    """Raise a UserError if z has no numbers besides the eps of c."""
    if latent <= text:
        raise UserError(
            f"model.game.prior.dim={latent}: {text} numbers are for the text, and none is left for the noise; use more"
        )


def _normalised(linear: nn.Module, kind: Norm, channels: int) -> list[nn.Module]:
    return [linear, layers.norm(kind, channels), nn.ReLU()]

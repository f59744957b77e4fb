"""PatchGAN, a discriminator that scores every patch of an image.

Reference: Isola 2016 (pix2pix), arXiv:1611.07004, sections 3.2.2 and 6.1.2.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from oakleaf.config.types import NonNegativeFloat, NonNegativeInt, PositiveInt
from oakleaf.errors import UserError
from oakleaf.networks import layers
from oakleaf.networks.layers import Norm, Size
from oakleaf.round import CriticOutput

LAYERS = {1: 0, 16: 1, 34: 2, 70: 3, 142: 4, 286: 5}  # patch size in pixels: number of strided convolutions


class PatchGAN(nn.Module):
    """Score each patch of an image by a fully convolutional network.

    Args:
        channels: channels of an image.
        size: image size in pixels.
        inputs: channels of the image from which the scored image was generated, which is appended to it; 0: the
            scored image is D's only input (the "GAN" of section 4.2).
        patch: side of a patch in pixels; 1 gives a discriminator of single pixels.
        width: channels of the first map.
        norm: normalisation of all layers but the first and the last, or of the weights ("spectral").
        slope: negative slope of the leaky ReLUs.

    Raises:
        UserError: the images are too small for the patch.

    Reference: Isola 2016, arXiv:1611.07004, sections 3.2.2, 4.4 and 6.1.2.
    """

    per_sample = True

    def __init__(
        self,
        channels: PositiveInt,
        size: Size,
        inputs: NonNegativeInt = 0,
        patch: Literal[1, 16, 34, 70, 142, 286] = 70,
        width: PositiveInt = 64,
        norm: Norm = "instance",
        slope: NonNegativeFloat = 0.2,
    ) -> None:
        super().__init__()
        count = LAYERS[patch]
        self.inputs = inputs
        side = min(layers.height_width(size))
        if side < (minimum := _minimum_side(count)):
            fits = max(patch for patch, deep in LAYERS.items() if side >= _minimum_side(deep))
            raise UserError(
                f"data.size={size}: patches of {patch} pixels need images of at least {minimum} pixels a side; set "
                f"model.game.discriminator.network.patch={fits} for model=cyclegan, else "
                f"model.game.discriminator.patch={fits}"
            )
        bias = norm in ("none", "spectral")
        maps: list[nn.Module] = []
        before = channels + inputs
        for k in range(count + 1):
            after = min(width << k, 8 * width)
            stride = 2 if k < count else 1
            kernel, padding = (4, 1) if count else (1, 0)
            convolution = nn.Conv2d(before, after, kernel, stride, padding, bias=bias or k == 0)
            maps += [convolution, layers.norm("none" if k == 0 else norm, after), nn.LeakyReLU(slope)]
            before = after
        if not count:  # the discriminator of pixels has one layer more
            maps += [nn.Conv2d(before, 2 * before, 1, bias=bias), layers.norm(norm, 2 * before), nn.LeakyReLU(slope)]
            before *= 2
        self.maps = nn.Sequential(*maps)
        self.score = nn.Conv2d(before, 1, *((4, 1, 1) if count else (1,)))
        layers.init_dcgan_(self, normalised=not bias)
        if norm == "spectral":
            layers.apply_spectral_norm(self)

    def forward(self, x: Tensor, y: Tensor | None = None) -> CriticOutput:
        """Score the patches of images.

        Args:
            x: images [B, channels, H, W].
            y: the images [B, inputs, H, W] from which they were generated, if `inputs` > 0.

        Returns:
            Scores [B, 1, h, w], one for each patch, and features [B, f], the inputs of the last layer.
        """
        maps = self.maps(torch.cat([x, y], 1) if self.inputs and y is not None else x)
        return CriticOutput(self.score(maps).float(), features=maps.flatten(1))

    @property
    def receptive_field(self) -> int:
        """Side of the patch on which one score depends, in pixels."""
        field = 1
        for layer in reversed([module for module in self.modules() if isinstance(module, nn.Conv2d)]):
            field = (field - 1) * layer.stride[0] + layer.kernel_size[0]
        return field


def _minimum_side(count: int) -> int:
    """The smallest image side, in pixels, for which normalised maps have 2 x 2 pixels and there is one score."""
    return 3 << count if count else 1

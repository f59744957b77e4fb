"""A discriminator of patches. Isola 2016 (pix2pix), arXiv:1611.07004, section 3.2.2 and 6.1.2."""

from typing import Literal

import torch
from torch import Tensor, nn

from oakleaf.config.types import NonNegativeFloat, NonNegativeInt, PositiveInt
from oakleaf.errors import UserError
from oakleaf.networks import layers
from oakleaf.networks.layers import Norm, Size
from oakleaf.round import CriticOutput

LAYERS = {1: 0, 16: 1, 34: 2, 70: 3, 142: 4, 286: 5}  # strided convolutions, by the patch that a score depends on


class PatchGAN(nn.Module):
    """A score for each patch of `patch` x `patch` pixels, all by the same convolutions: 1 is a discriminator of pixels.

    inputs: channels of what the image was made from, judged beside it; 0: D is not told (section 4.2, "GAN").
    """

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
        if min(layers.height_width(size)) < (least := _least(count)):
            fits = max(patch for patch, deep in LAYERS.items() if min(layers.height_width(size)) >= _least(deep))
            raise UserError(
                f"data.size={size}: patches of {patch} need {least} pixels a side at least; of two critics "
                f"model.game.discriminator.network.patch={fits}, of one model.game.discriminator.patch={fits}"
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
        if not count:  # of pixels: one layer more
            maps += [nn.Conv2d(before, 2 * before, 1, bias=bias), layers.norm(norm, 2 * before), nn.LeakyReLU(slope)]
            before *= 2
        self.maps = nn.Sequential(*maps)
        self.score = nn.Conv2d(before, 1, *((4, 1, 1) if count else (1,)))
        layers.dcgan_weights(self, normalised=not bias)
        if norm == "spectral":
            layers.spectral(self)

    def forward(self, x: Tensor, y: Tensor | None = None) -> CriticOutput:
        """x [B, channels, H, W], y [B, inputs, H, W] -> score [B, 1, h, w], features [B, f]"""
        maps = self.maps(torch.cat([x, y], 1) if self.inputs and y is not None else x)
        return CriticOutput(self.score(maps).float(), features=maps.flatten(1))

    @property
    def receptive_field(self) -> int:
        """Pixels on which one score depends, across."""
        field = 1
        for layer in reversed([module for module in self.modules() if isinstance(module, nn.Conv2d)]):
            field = (field - 1) * layer.stride[0] + layer.kernel_size[0]
        return field


def _least(count: int) -> int:
    """Pixels that leave maps of 2 x 2 to be normalised, and one score."""
    return 3 << count if count else 1

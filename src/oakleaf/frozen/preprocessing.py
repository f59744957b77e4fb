"""From images of a GAN to the input that a pretrained network expects, differentiably."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from oakleaf.config.types import PositiveFloat, Size, height_width
from oakleaf.errors import UserError

LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in Pillow's conversion to grey
BLACK = -1.0


@dataclass(frozen=True)
class Input:
    """What a network expects as its input.

    Args:
        size: height and width in pixels, one number for a square; null: any size.
        channels: 1 for grey, 3 for RGB, or another number for images that are no pictures.
        mean: of each channel, or one number for all; it is subtracted after the scaling.
        sd: of each channel, or one number for all; the divisor after that.
        white: the value of white before `mean` is subtracted; black is 0. For example 1 or 255.
        bgr: whether the order of the channels is blue, green, red.
        resample: how images of another size are resized; smaller ones are antialiased.
        keep_ratio: resize the longer side, and fill the rest with black at both ends; otherwise both sides are resized.
        box: the part of an image that the network sees, (top, left, bottom, right) as shares of its sides; null: all.
    """

    size: Size | None = None
    channels: int = 3
    mean: float | Sequence[float] = 0.5
    sd: float | Sequence[float] = 0.5
    white: PositiveFloat = 1.0
    bgr: bool = False
    resample: Literal["bilinear", "bicubic"] = "bilinear"
    keep_ratio: bool = False
    box: tuple[float, float, float, float] | None = None


IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in [0, 1]


class Preprocessing(nn.Module):
    """Crop, resize, convert the channels of, and normalise images [B, C, H, W] in [-1, 1], in this order.

    Args:
        expected: what the network expects.
    """

    factor: Tensor  # [1, channels, 1, 1]
    offset: Tensor  # [1, channels, 1, 1]

    def __init__(self, expected: Input) -> None:
        super().__init__()
        self.expected = expected
        sd, mean = (torch.tensor(value).float().expand(expected.channels) for value in (expected.sd, expected.mean))
        half = expected.white / 2
        self.register_buffer("factor", (half / sd)[None, :, None, None], persistent=False)
        self.register_buffer("offset", ((half - mean) / sd)[None, :, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the network's input.

        Args:
            x: images [B, C, H, W] in [-1, 1].

        Returns:
            [B, channels, height, width] of the network.

        Raises:
            UserError: images with this number of channels cannot be converted.
        """
        x = with_channels(self._resized(self._cropped(x)), self.expected.channels)
        x = x.flip(1) if self.expected.bgr else x
        return x * self.factor + self.offset

    def _cropped(self, x: Tensor) -> Tensor:
        if self.expected.box is None:
            return x
        top, left, bottom, right = self.expected.box
        height, width = x.shape[2:]
        return x[:, :, round(top * height) : round(bottom * height), round(left * width) : round(right * width)]

    def _resized(self, x: Tensor) -> Tensor:
        if self.expected.size is None:
            return x
        height, width = height_width(self.expected.size)
        inner = height, width
        if self.expected.keep_ratio:
            scale = min(height / x.shape[2], width / x.shape[3])
            inner = max(1, round(x.shape[2] * scale)), max(1, round(x.shape[3] * scale))
        if x.shape[2:] != inner:
            x = interpolate(x, inner, mode=self.expected.resample, align_corners=False, antialias=True)
        if inner == (height, width):
            return x
        top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
        return pad(x, (left, width - inner[1] - left, top, height - inner[0] - top), value=BLACK)


def with_channels(x: Tensor, channels: int) -> Tensor:
    """Convert images to another number of channels: grey is repeated, and colours become their luminance.

    Args:
        x: images [B, C, H, W].
        channels: the number of channels of the result.

    Raises:
        UserError: C is neither `channels` nor 1 or 3.
    """
    if x.shape[1] == channels:
        return x
    if x.shape[1] == 1:
        return x.expand(-1, channels, -1, -1)
    if x.shape[1] == 3 and channels == 1:
        return (x * x.new_tensor(LUMINANCE)[:, None, None]).sum(1, keepdim=True)
    raise UserError(f"a frozen network for {channels} channels cannot see images of {x.shape[1]} channels")

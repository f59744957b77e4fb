"""Inputs of image-to-image generators that are computed from the image: any set of images becomes a set of pairs.

The generator learns the way back: from grey to colour, from edges to a photograph, from a low resolution to a high one,
from an image with a missing part to a complete one.
"""

import math
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import conv2d, grid_sample, interpolate, pad

from oakleaf.config.types import NonNegativeFloat, PositiveFloat, PositiveInt
from oakleaf.data.decoding import UNREADABLE
from oakleaf.data.pictures import to_8bit
from oakleaf.errors import UserError

LUMINANCE = (0.299, 0.587, 0.114)  # weights of red, green and blue, ITU-R BT.601


class Input(Protocol):
    """A way to compute the input of an image-to-image generator from its target image, both in [-1, 1]."""

    def channels(self, image: int) -> int:
        """Return the number of channels of the input for images with `image` channels."""

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Compute the inputs of a batch.

        It must not wait for a GPU, so random numbers are drawn on the CPU and constants are created on the device.

        Args:
            image: [B, C, H, W] in [-1, 1].
            generator: on the CPU, for what is random about the input.

        Returns:
            [B, channels, H, W] in [-1, 1].
        """


def luminance(image: Tensor) -> Tensor:
    """Return the luminance of images.

    Args:
        image: [B, C, H, W]; three channels are red, green and blue, of other numbers the mean is taken.

    Returns:
        [B, 1, H, W].
    """
    if image.shape[1] != 3:
        return image.mean(1, keepdim=True)
    # each weight is filled in on the device: copying a tensor of them would make the CPU wait for the GPU
    weights = torch.stack([image.new_full((), weight) for weight in LUMINANCE])
    return (image * weights[:, None, None]).sum(1, keepdim=True)


class Grey:
    """The luminance of the image; the generator learns to colour it.

    Reference: Isola 2016, arXiv:1611.07004, figure 1.
    """

    def channels(self, image: int) -> int:
        return 1

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        return luminance(image)


class Edges:
    """Dark lines on white where the luminance changes: the norm of Sobel's gradient, times `gain`.

    Args:
        gain: how dark the lines are; with 1, a step from black to white gives black.

    Reference: Isola 2016, arXiv:1611.07004, section 4, has the edges of HED, which need a trained network.
    """

    def __init__(self, gain: PositiveFloat = 1.0) -> None:
        self.gain = gain

    def channels(self, image: int) -> int:
        return 1

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        # created on the device: copying a constant would make the CPU wait for the GPU
        difference = torch.arange(-1, 2, dtype=image.dtype, device=image.device)
        sobel = torch.outer(2 - difference.abs(), difference) / 8
        kernels = torch.stack([sobel, sobel.T])[:, None]
        gradient = conv2d(pad(luminance(image), (1, 1, 1, 1), "replicate"), kernels)
        # a step from black to white has a gradient of norm 1 in the pixels on either side of it
        return 1 - 2 * (self.gain * gradient.square().sum(1, keepdim=True).sqrt()).clamp(max=1)


class LowResolution:
    """The image shrunk by a factor, antialiased, and enlarged again, both bicubic: the input of super-resolution.

    Args:
        factor: each side is divided by it.

    Reference: Dong 2014, arXiv:1501.00092, section 3.1.
    """

    def __init__(self, factor: PositiveInt = 4) -> None:
        self.factor = factor

    def channels(self, image: int) -> int:
        return image

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        size = image.shape[2:]
        if min(size) < 2 * self.factor:
            raise UserError(f"data.input.factor={self.factor}: nothing is left of {size[0]} x {size[1]} pixels")
        small = [side // self.factor for side in size]
        shrunk = interpolate(image.float(), small, mode="bicubic", antialias=True)
        return interpolate(shrunk, list(size), mode="bicubic").clamp(-1, 1).to(image.dtype)


class Masked:
    """The image with a missing part, which is 0, and a mask as a further channel: 1 where it is missing, else -1.

    Args:
        region: what is missing. "centre": the middle half of each side; "block": a rectangle of that size at a random
            place; "half": the right half; otherwise the path of a picture, whose white pixels are missing.

    Raises:
        UserError: there is no such region or picture, or the picture is all black or all white.

    Reference: Pathak 2016, arXiv:1604.07379, section 3.3.
    """

    def __init__(self, region: str = "centre") -> None:
        self.region = region
        self.mask = None if region in ("centre", "block", "half") else _read_mask(Path(region).expanduser())

    def channels(self, image: int) -> int:
        return image + 1

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        missing = self.missing(len(image), image.shape[2], image.shape[3], generator, image.device)
        return torch.cat([image * ~missing, 2 * missing.to(image.dtype) - 1], 1)

    def missing(
        self, count: int, height: int, width: int, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Return which pixels are missing.

        Args:
            count: of images, B.
            height: of the images.
            width: of the images.
            generator: on the CPU, for the region "block".
            device: of the result.

        Returns:
            [B, 1, height, width] bool.
        """
        if self.mask is not None:
            mask = self.mask.resize((width, height), Image.Resampling.NEAREST)
            missing = torch.frombuffer(bytearray(mask.tobytes()), dtype=torch.uint8).view(1, 1, height, width) > 127
            return missing.to(device, non_blocking=True).expand(count, -1, -1, -1)
        if self.region == "half":
            return (torch.arange(width, device=device) >= width // 2).expand(count, 1, height, width)
        block_height, block_width = height // 2, width // 2
        corners = torch.tensor([[(height - block_height) // 2, (width - block_width) // 2]]).expand(count, 2)
        if self.region == "block":
            choices = torch.tensor([height - block_height + 1, width - block_width + 1])
            corners = (torch.rand(count, 2, generator=generator) * choices).long()
        top, left = corners.to(device, non_blocking=True).T[:, :, None]
        rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
        missing_rows = (rows >= top) & (rows < top + block_height)  # [B, height]
        missing_columns = (columns >= left) & (columns < left + block_width)  # [B, width]
        return (missing_rows[:, :, None] & missing_columns[:, None, :])[:, None]


class Pasted:
    """The image with a part of itself pasted in whose colours are changed, as a naive composite of two photographs.

    The part is changed as a whole: saturation, gamma, a gain for each channel and an offset for each channel, drawn
    uniformly for each image. The target is the image itself, so the right colours of the part are known. The published
    data have two photographs of one scene in place of the change of colours.

    Args:
        region: what is pasted: "centre", the middle half of each side, as published; "block", "half" or a mask as for
            `Masked`.
        saturation: its lowest and highest factor.
        gamma: its lowest and highest exponent.
        gain: the lowest and highest factor of a channel.
        offset: the largest change of a channel, where values are in [0, 1].

    Reference: Wu 2017 (GP-GAN), arXiv:1703.07195, section 3.1, and the authors' dataset.py.
    """

    def __init__(
        self,
        region: str = "centre",
        saturation: tuple[float, float] = (0.5, 1.3),
        gamma: tuple[float, float] = (0.7, 1.4),
        gain: tuple[float, float] = (0.6, 1.4),
        offset: NonNegativeFloat = 0.1,
    ) -> None:
        self.masked = Masked(region)
        self.saturation, self.gamma, self.gain, self.offset = saturation, gamma, gain, offset

    def channels(self, image: int) -> int:
        return image

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        part = self.masked.missing(len(image), image.shape[2], image.shape[3], generator, image.device)
        return torch.where(part, self.recoloured(image, generator), image)

    def recoloured(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Return images [B, C, H, W] in [-1, 1] with other colours."""
        ranges = (self.saturation, self.gamma, self.gain, (-self.offset, self.offset))
        widths = (1, 1, image.shape[1], image.shape[1])  # numbers for each image
        saturation, gamma, gain, offset = (
            (low + (high - low) * torch.rand(len(image), width, 1, 1, generator=generator)).to(
                image.device, image.dtype, non_blocking=True
            )
            for (low, high), width in zip(ranges, widths)
        )
        colours = torch.lerp(luminance(image), image, saturation).add(1).div(2).clamp(min=0)
        return (gain * colours**gamma + offset).clamp(0, 1) * 2 - 1


class Turned:
    """The face of the image turned to the side, as if the picture were on a cylinder: its left half stays visible.

    A point x of the turned face, in radii from its centre, shows the frontal face's point sin(arcsin x - yaw), a little
    higher or lower where the depth changes. What lies more than `limit` round the cylinder shows the colour of its
    edge. The pairs are exact at any yaw. A cylinder has no nose, and the hair turns as if it were skin.

    Args:
        yaw: the lowest and highest angle, in degrees; one is drawn for each image.
        radius: of the cylinder, as a share of the picture's width.
        centre: x and y of the middle between the eyes, as shares of the sides.
        depth: how much y is scaled with the depth.
        limit: in degrees.

    Raises:
        UserError: the angles are not in order, or not from 0 to 90.

    Reference: the stand-in for the pairs of Huang 2017 (TP-GAN), arXiv:1704.04086, which are photographs.
    """

    def __init__(
        self,
        yaw: tuple[NonNegativeFloat, NonNegativeFloat] = (15.0, 90.0),
        radius: PositiveFloat = 0.3,
        centre: tuple[float, float] = (0.5, 0.45),
        depth: NonNegativeFloat = 0.06,
        limit: PositiveFloat = 80.0,
    ) -> None:
        if not 0 <= yaw[0] <= yaw[1] <= 90:
            raise UserError(f"data.input.yaw={list(yaw)}: give the lowest and the highest angle, from 0 to 90 degrees")
        self.yaw, self.radius, self.centre, self.depth, self.limit = yaw, radius, centre, depth, math.radians(limit)

    def channels(self, image: int) -> int:
        return image

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        low, high = self.yaw
        yaw = torch.deg2rad(low + (high - low) * torch.rand(len(image), 1, 1, generator=generator))
        return self.turned(image, yaw.to(image.device, image.dtype, non_blocking=True))

    def turned(self, image: Tensor, yaw: Tensor) -> Tensor:
        """Turn images [B, C, H, W] by angles [B, 1, 1] in radians."""
        height, width = image.shape[2:]
        rows, columns = (
            (torch.arange(side, device=image.device, dtype=image.dtype) + 0.5) / side for side in (height, width)
        )
        x, y = (columns - self.centre[0]) / self.radius, (rows - self.centre[1])[:, None] / self.radius
        phi = x.clamp(-1, 1).asin()
        angle = (phi - yaw).clamp(-self.limit, self.limit)
        shown = torch.where(x.abs() <= 1, angle.sin(), x).expand(-1, height, -1)
        scale = torch.where(x.abs() <= 1, 1 + self.depth * (angle.cos() - phi.cos()), torch.ones_like(angle))
        place = torch.stack([shown * self.radius + self.centre[0], y * scale * self.radius + self.centre[1]], 3)
        return grid_sample(image, 2 * place - 1, padding_mode="border", align_corners=False)


def _read_mask(file: Path) -> Image.Image:
    """The picture as 8-bit grey."""
    if not file.is_file():
        raise UserError(f"data.input.region={file}: centre, block, half, or a picture whose white parts are missing")
    try:
        with Image.open(file) as picture:
            mask = to_8bit(picture, 1)
    except UNREADABLE as error:
        raise UserError(f"data.input.region={file}: can't be read as a picture ({error})") from error
    missing = {value > 127 for value in mask.tobytes()}
    if len(missing) == 1:
        raise UserError(f"data.input.region={file}: {'nothing' if True in missing else 'all'} of it would be left")
    return mask

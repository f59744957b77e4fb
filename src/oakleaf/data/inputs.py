"""What a translator is given, made of the image that it is to give back: any set of images becomes one of pairs."""

from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from oakleaf.config.types import PositiveFloat, PositiveInt
from oakleaf.data.decoding import UNREADABLE
from oakleaf.data.resize import to_8bit
from oakleaf.errors import UserError

LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601


class Input(Protocol):
    """Pictures from images, both in [-1, 1]."""

    def channels(self, image: int) -> int:
        """Of the pictures, for images with so many channels."""

    def __call__(self, image: Tensor, chance: torch.Generator) -> Tensor:
        """Images [B, C, H, W] -> [B, channels, H, W]; whatever is random about it is drawn on the CPU by `chance`."""


def luminance(image: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, 1, H, W]; the mean of channels that are not red, green and blue."""
    if image.shape[1] != 3:
        return image.mean(1, keepdim=True)
    weights = torch.stack([image.new_full((), weight) for weight in LUMINANCE])  # filled in there: a copy would wait
    return (image * weights[:, None, None]).sum(1, keepdim=True)


class Grey:
    """The luminance alone; its colours are to be found. Isola 2016, arXiv:1611.07004, figure 1."""

    def channels(self, image: int) -> int:
        return 1

    def __call__(self, image: Tensor, chance: torch.Generator) -> Tensor:
        return luminance(image)


class Edges:
    """Dark lines on white where the luminance changes: Sobel's gradient, its length times `gain`. Isola 2016,
    arXiv:1611.07004, section 4, has HED's edges, which need a trained network.
    """

    def __init__(self, gain: PositiveFloat = 1.0) -> None:
        self.gain = gain

    def channels(self, image: int) -> int:
        return 1

    def __call__(self, image: Tensor, chance: torch.Generator) -> Tensor:
        slope = torch.arange(-1, 2, dtype=image.dtype, device=image.device)  # made there: a copy would wait
        across = torch.outer(2 - slope.abs(), slope) / 8
        slopes = conv2d(pad(luminance(image), (1, 1, 1, 1), "replicate"), torch.stack([across, across.T])[:, None])
        # a step from black to white has slope 1 a pixel on either side of it
        return 1 - 2 * (self.gain * slopes.square().sum(1, keepdim=True).sqrt()).clamp(max=1)


class LowResolution:
    """Shrunk by `factor`, antialiased, and enlarged again, both bicubic: super-resolution's input (Dong 2014,
    arXiv:1501.00092, section 3.1)."""

    def __init__(self, factor: PositiveInt = 4) -> None:
        self.factor = factor

    def channels(self, image: int) -> int:
        return image

    def __call__(self, image: Tensor, chance: torch.Generator) -> Tensor:
        whole = image.shape[2:]
        if min(whole) < 2 * self.factor:
            raise UserError(f"data.input.factor={self.factor}: nothing is left of {whole[0]} x {whole[1]} pixels")
        small = [side // self.factor for side in whole]
        shrunk = interpolate(image.float(), small, mode="bicubic", antialias=True)
        return interpolate(shrunk, list(whole), mode="bicubic").clamp(-1, 1).to(image.dtype)


class Masked:
    """The image with a part missing, 0 there, and a further channel that is 1 where it is missing and -1 elsewhere.
    Pathak 2016, arXiv:1604.07379, section 3.3.

    region: centre = the middle half of either side; block = a square as large, anywhere; half = the right half; or a
    picture's file: what is white in it is missing.

    Raises:
        UserError: no such word or picture, or one that is all black or all white.
    """

    def __init__(self, region: str = "centre") -> None:
        self.region = region
        self.drawn = None if region in ("centre", "block", "half") else _mask(Path(region).expanduser())

    def channels(self, image: int) -> int:
        return image + 1

    def __call__(self, image: Tensor, chance: torch.Generator) -> Tensor:
        missing = self.missing(len(image), image.shape[2], image.shape[3], chance, image.device)
        return torch.cat([image * ~missing, 2 * missing.to(image.dtype) - 1], 1)

    def missing(
        self, count: int, height: int, width: int, chance: torch.Generator, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Where, [count, 1, height, width], bool."""
        if self.drawn is not None:
            drawn = self.drawn.resize((width, height), Image.Resampling.NEAREST)
            there = torch.frombuffer(bytearray(drawn.tobytes()), dtype=torch.uint8).view(1, 1, height, width) > 127
            return there.to(device, non_blocking=True).expand(count, -1, -1, -1)
        if self.region == "half":
            return (torch.arange(width, device=device) >= width // 2).expand(count, 1, height, width)
        tall, wide = height // 2, width // 2
        places = torch.tensor([[(height - tall) // 2, (width - wide) // 2]]).expand(count, 2)
        if self.region == "block":
            places = (
                torch.rand(count, 2, generator=chance) * torch.tensor([height - tall + 1, width - wide + 1])
            ).long()
        rows, columns = places.to(device, non_blocking=True).T[:, :, None]
        down, across = torch.arange(height, device=device), torch.arange(width, device=device)
        inside = (down >= rows) & (down < rows + tall)  # [count, height]
        beside = (across >= columns) & (across < columns + wide)
        return (inside[:, :, None] & beside[:, None, :])[:, None]


def _mask(file: Path) -> Image.Image:
    """The picture, grey."""
    if not file.is_file():
        raise UserError(f"data.input.region={file}: centre, block, half, or a picture whose white parts are missing")
    try:
        with Image.open(file) as picture:
            drawn = to_8bit(picture, 1)
    except UNREADABLE as error:
        raise UserError(f"data.input.region={file}: can't be read as a picture ({error})") from error
    missing = {value > 127 for value in drawn.tobytes()}
    if len(missing) == 1:
        raise UserError(f"data.input.region={file}: {'nothing' if True in missing else 'all'} of it would be left")
    return drawn

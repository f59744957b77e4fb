"""Cutting one picture to size: any mode, any shape -> uint8 [C, H, W]."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps

from oakleaf.config.types import PositiveInt

Crop = Literal["center", "stretch", "pad"] | PositiveInt
Resample = Literal["nearest", "bilinear", "bicubic", "lanczos", "box"]


class PictureTooSmall(ValueError):
    """A picture with fewer pixels than wanted, where enlarging was not allowed. advice: what helps."""

    def __init__(self, words: str, advice: str) -> None:
        super().__init__(words)
        self.advice = advice


@dataclass(frozen=True)
class CropResize:
    """How a picture becomes an image of `channels` x `height` x `width`.

    crop: center = the largest centred part of the wanted shape; a number n = the centred n x n pixels first; stretch =
    all of it, distorted; pad = all of it, with black around. resample is PIL's, with antialiasing when shrinking.

    ample: how many times the wanted size a JPEG is decoded at, at least; one of twice that or more is decoded at a
    half, a quarter or an eighth of its own, which changes less than its compression did (LOG.md has numbers). Not where
    a crop counts its pixels, or neighbours may not be mixed. A field, as what is kept of decoded images goes by all.
    """

    channels: int
    height: int
    width: int
    crop: Crop = "center"
    resample: Resample = "bilinear"
    upscale: bool = False
    ample: PositiveInt = 4

    def __call__(self, picture: Image.Image) -> np.ndarray:
        """Raises:
        TooSmall: fewer pixels than wanted.
        """
        if not isinstance(self.crop, int) and self.resample != "nearest":
            ample = self.ample * max(self.height, self.width)  # on both sides, as it may lie on its side
            picture.draft(None, (ample, ample))
        ImageOps.exif_transpose(picture, in_place=True)
        picture = to_8bit(picture, self.channels)
        if isinstance(self.crop, int):
            picture = _centre(picture, self.crop, self.crop)
        width, height = picture.size
        short = (height < self.height, width < self.width)
        if not self.upscale and (all(short) if self.crop == "pad" else any(short)):
            words = f"{width} x {height} pixels, smaller than the {self.width} x {self.height} wanted"
            raise PictureTooSmall(words, "Choose a smaller data.size, enlarge (data.source.upscale=true)")
        if picture.size != (self.width, self.height):
            picture = self._resized(picture)
        return np.ascontiguousarray(np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1))

    def _resized(self, picture: Image.Image) -> Image.Image:
        size = (self.width, self.height)
        method = Image.Resampling[self.resample.upper()]
        if self.crop == "stretch":
            return picture.resize(size, method)
        if self.crop == "pad":
            return ImageOps.pad(picture, size, method)
        return ImageOps.fit(picture, size, method)


def to_8bit(picture: Image.Image, channels: int) -> Image.Image:
    """Eight bits and 1 or 3 channels: 16-bit values are scaled down, transparency is laid on white."""
    if picture.mode.startswith(("I", "F")):  # 16 bits, or floating point in [0, 1] or [0, 255]
        values = np.asarray(picture, dtype=np.float64)
        top = 65535.0 if picture.mode.startswith("I") else 1.0 if values.max(initial=0) <= 1 else 255.0
        picture = Image.fromarray(np.round(values.clip(0, top) * (255.0 / top)).astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("L" if channels == 1 else "RGB")


def exif_size(picture: Image.Image) -> tuple[int, int]:
    """(height, width) once it is turned as its EXIF says, from its head alone. A TIFF's has them so already."""
    lies = picture.format != "TIFF" and picture.getexif().get(ExifTags.Base.Orientation, 1) > 4
    return (picture.width, picture.height) if lies else (picture.height, picture.width)


def is_grey(picture: Image.Image) -> bool:
    """By its mode, and where colours are numbers of a palette, by them."""
    if picture.mode in ("P", "PA"):
        return has_only_grey_pixels(picture)
    return picture.mode in ("1", "L", "LA", "La") or picture.mode.startswith(("I", "F"))


def has_only_grey_pixels(picture: Image.Image) -> bool:
    """Whether all its pixels are grey, however it is stored."""
    pixels = np.asarray(to_8bit(picture, 3))
    return bool((pixels == pixels[:, :, :1]).all())


def _centre(picture: Image.Image, height: int, width: int) -> Image.Image:
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    if left < 0 or top < 0:
        words = f"{picture.width} x {picture.height} pixels, smaller than data.crop={width}"
        raise PictureTooSmall(words, "Choose a smaller data.crop")
    return picture.crop((left, top, left + width, top + height))

"""Resizing one picture: from any mode and shape to an image [C, H, W]."""

from dataclasses import astuple, dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from oakleaf.config.types import PositiveInt
from oakleaf.data.pictures import Picture, is_deep, to_8bit
from oakleaf.data.values import BYTES, ValueRange, array_of, is_channels_last, with_channels

Crop = Literal["center", "stretch", "pad"] | PositiveInt
Background = Literal["white", "grey", "black"]
GREY: dict[str, float] = {"white": 1.0, "grey": 128 / 255, "black": 0.0}
Resample = Literal["nearest", "bilinear", "bicubic", "lanczos", "box"]


class PictureTooSmall(ValueError):
    """A picture has fewer pixels than the configured size, and enlarging is not allowed.

    Args:
        message: what is wrong.
        advice: what the user can change.
    """

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.advice = advice


@dataclass(frozen=True)
class CropResize:
    """Convert a picture into an image of `channels` x `height` x `width`.

    All fields are part of the key of the decoded-image cache, so `jpeg_scale` is a field rather than a constant.

    Args:
        channels: 1 (grey), 3 (red, green, blue), 4 (and opacity), or any number that the pictures have.
        height: of the image, in pixels.
        width: of the image, in pixels.
        crop: "center": the largest centred part with the aspect ratio of the image; a number n: first the centred n x n
            pixels; "stretch": the whole picture, distorted; "pad": the whole picture with black borders.
        resample: PIL's filter, antialiased when the picture is shrunk.
        upscale: enlarge pictures that are smaller than the image; otherwise they are an error.
        jpeg_scale: a JPEG is decoded at a half, a quarter or an eighth of its size where that is still at least this
            many times the size of the image. That is much faster and changes the result less than the compression of
            the file did (LOG.md has the numbers). It is not done where `crop` counts pixels of the original, nor with
            `resample` "nearest", which must not average neighbouring pixels.
        range: the values of the set that mean black and white, and the form in which images are stored.
        background: white, grey or black, behind transparent pixels where opacity is not one of the channels.
    """

    channels: int
    height: int
    width: int
    crop: Crop = "center"
    resample: Resample = "bilinear"
    upscale: bool = False
    jpeg_scale: PositiveInt = 4
    range: ValueRange = BYTES
    background: Background = "white"

    @property
    def key(self) -> tuple[object, ...]:
        """All fields, as part of the cache's key. The last two are left out where they are those of ordinary pictures,
        whose images were cached before there were any others."""
        fields = (self.channels, self.height, self.width, self.crop, self.resample, self.upscale, self.jpeg_scale)
        ordinary = self.range == BYTES and self.background == "white"
        return fields if ordinary else (*fields, tuple(astuple(self.range)), self.background)

    @property
    def dtype(self) -> type[np.generic]:
        """The type of stored images."""
        return np.uint8 if self.range.eight_bits else np.float32

    def __call__(self, picture: Picture) -> np.ndarray:
        """Convert one picture, rotated upright as its EXIF data say.

        Args:
            picture: an opened picture; a JPEG must not have been decoded yet, or it is decoded in full.

        Returns:
            [channels, height, width], uint8, or float32 in [-1, 1] if the set has values of more than 8 bits.

        Raises:
            PictureTooSmall: the picture has fewer pixels than the image, and `upscale` is False.
        """
        if not isinstance(picture, Image.Image) or is_deep(picture) or self.range != BYTES or self.channels > 4:
            return self.array(array_of(picture, is_channels_last(picture)))
        if not isinstance(self.crop, int) and self.resample != "nearest":
            least = self.jpeg_scale * max(self.height, self.width)  # of both sides, as EXIF may rotate the picture
            picture.draft(None, (least, least))
        ImageOps.exif_transpose(picture, in_place=True)
        picture = self.cropped_and_resized(to_8bit(picture, self.channels, self.background))
        return np.ascontiguousarray(np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1))

    def array(self, values: np.ndarray) -> np.ndarray:
        """Convert a picture that is an array of any type, [C, H, W], to the form in which images are stored."""
        scaled = with_channels(self.range.scaled(values), self.channels, GREY[self.background])
        return self.range.stored(self.values(np.ascontiguousarray(scaled)))

    def cropped_and_resized(self, picture: Image.Image) -> Image.Image:
        """Crop and resize a picture of any mode that can be resized.

        Raises:
            PictureTooSmall: the picture has fewer pixels than the image, and `upscale` is False.
        """
        if isinstance(self.crop, int):
            picture = _center_crop(picture, self.crop)
        width, height = picture.size
        too_small = (height < self.height, width < self.width)
        if not self.upscale and (all(too_small) if self.crop == "pad" else any(too_small)):
            message = f"{width} x {height} pixels, smaller than the {self.width} x {self.height} requested"
            raise PictureTooSmall(message, "Choose a smaller data.size or enlarge with data.source.upscale=true")
        return picture if picture.size == (self.width, self.height) else self._resized(picture)

    def values(self, values: np.ndarray) -> np.ndarray:
        """Crop and resize an array channel by channel, with the same filters as a picture.

        Args:
            values: [C, H, W] float32; black is 0, which is also the border of `crop` "pad".

        Returns:
            [C, height, width] float32, within the range of the values.
        """
        if values.shape[1:] == (self.height, self.width) and not isinstance(self.crop, int):
            return values
        channels = [np.asarray(self.cropped_and_resized(Image.fromarray(channel))) for channel in values]
        return np.stack(channels).clip(values.min(), values.max())  # bicubic and Lanczos filters go beyond

    def _resized(self, picture: Image.Image) -> Image.Image:
        size = (self.width, self.height)
        method = Image.Resampling[self.resample.upper()]
        if self.crop == "stretch":
            return picture.resize(size, method)
        if self.crop == "pad":
            return ImageOps.pad(picture, size, method)
        return ImageOps.fit(picture, size, method)


def _center_crop(picture: Image.Image, side: int) -> Image.Image:
    """The centred side x side pixels."""
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    if left < 0 or top < 0:
        message = f"{picture.width} x {picture.height} pixels, smaller than data.crop={side}"
        raise PictureTooSmall(message, "Choose a smaller data.crop")
    return picture.crop((left, top, left + side, top + side))

"""Resizing one picture: from any mode and shape to uint8 [C, H, W]."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps

from oakleaf.config.types import PositiveInt

Crop = Literal["center", "stretch", "pad"] | PositiveInt
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
    """Convert a picture into an image of `channels` x `height` x `width` bytes.

    All fields are part of the key of the decoded-image cache, so `jpeg_scale` is a field rather than a constant.

    Args:
        channels: 1 (grey) or 3 (red, green, blue).
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
    """

    channels: int
    height: int
    width: int
    crop: Crop = "center"
    resample: Resample = "bilinear"
    upscale: bool = False
    jpeg_scale: PositiveInt = 4

    def __call__(self, picture: Image.Image) -> np.ndarray:
        """Convert one picture, rotated upright as its EXIF data say.

        Args:
            picture: an opened picture; a JPEG must not have been decoded yet, or it is decoded in full.

        Returns:
            uint8 [channels, height, width].

        Raises:
            PictureTooSmall: the picture has fewer pixels than the image, and `upscale` is False.
        """
        if not isinstance(self.crop, int) and self.resample != "nearest":
            least = self.jpeg_scale * max(self.height, self.width)  # of both sides, as EXIF may rotate the picture
            picture.draft(None, (least, least))
        ImageOps.exif_transpose(picture, in_place=True)
        picture = self.cropped_and_resized(to_8bit(picture, self.channels))
        return np.ascontiguousarray(np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1))

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


def to_8bit(picture: Image.Image, channels: int) -> Image.Image:
    """Convert a picture of any mode to 8 bits a channel.

    16-bit values are scaled to 8 bits, floating-point values are taken as [0, 1] or, where one exceeds 1, as [0, 255],
    and transparent pixels are blended with white.

    Args:
        picture: of any mode.
        channels: 1 for grey ("L"), 3 for colour ("RGB").
    """
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture, dtype=np.float64)
        top = 65535.0 if picture.mode.startswith("I") else 1.0 if values.max(initial=0) <= 1 else 255.0
        picture = Image.fromarray(np.round(values.clip(0, top) * (255.0 / top)).astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("L" if channels == 1 else "RGB")


def exif_size(picture: Image.Image) -> tuple[int, int]:
    """Return (height, width) of a picture after the rotation that its EXIF data say, without decoding it."""
    # PIL reports the size of a TIFF after the rotation already
    rotated = picture.format != "TIFF" and picture.getexif().get(ExifTags.Base.Orientation, 1) > 4
    return (picture.width, picture.height) if rotated else (picture.height, picture.width)


def is_grey(picture: Image.Image) -> bool:
    """Return whether a picture is stored as grey: by its mode, or by the colours of its palette if it has one."""
    if picture.mode in ("P", "PA"):
        return has_only_grey_pixels(picture)
    return picture.mode in ("1", "L", "LA", "La") or picture.mode.startswith(("I", "F"))


def has_only_grey_pixels(picture: Image.Image) -> bool:
    """Return whether every pixel is grey, whatever the mode of the picture."""
    pixels = np.asarray(to_8bit(picture, 3))
    return bool((pixels == pixels[:, :, :1]).all())


def _center_crop(picture: Image.Image, side: int) -> Image.Image:
    """The centred side x side pixels."""
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    if left < 0 or top < 0:
        message = f"{picture.width} x {picture.height} pixels, smaller than data.crop={side}"
        raise PictureTooSmall(message, "Choose a smaller data.crop")
    return picture.crop((left, top, left + side, top + side))

"""Opening picture files of any format, with all of their channels and bits.

Pillow reads most formats, lazily. It reduces colours of 16 bits to 8 and cannot open pictures of other numbers of
channels; torchvision (PNG) and the package tifffile (TIFF) read those, and numpy reads arrays (.npy). Such pictures are
arrays [H, W, C], all others are Pillow's.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

Picture = Image.Image | np.ndarray
NOT_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"}  # read in part, or by other programs
MORE_THAN_8_BITS = ";16"  # in the name that Pillow has for the layout of the file's values
TIFF = (".tif", ".tiff")


def picture_extensions() -> set[str]:
    """Return the extensions of all picture formats that can be read, in lower case; `.npy` is not among them."""
    formats = Image.registered_extensions()
    readable = {*Image.OPEN, "MPO"} - NOT_PICTURES  # MPO is read by the format JPEG
    return {extension for extension, name in formats.items() if name in readable}


def open_picture(file: Path, content: bytes | None = None) -> Picture:
    """Open a picture, which is decoded when its pixels are needed.

    Args:
        file: its path, whose extension says how it is read.
        content: of the file, if it is not on disk but in an archive.

    Raises:
        OSError, ValueError: it is none, or it is damaged; see `decoding.UNREADABLE`.
    """
    if file.suffix.lower() == ".npy":
        return _checked(np.load(_source(file, content), allow_pickle=False))
    try:
        picture = Image.open(_source(file, content))
    except UnidentifiedImageError:
        if file.suffix.lower() in TIFF:
            return _read_tiff(_source(file, content))
        raise
    layout = str(picture.tile[0][3]) if getattr(picture, "tile", None) else ""
    if MORE_THAN_8_BITS not in layout or picture.mode not in ("LA", "RGB", "RGBA"):
        return picture
    if picture.format == "PNG":
        picture.close()
        return _read_png(file.read_bytes() if content is None else content)
    if picture.format == "TIFF" and _has_tifffile():
        picture.close()
        return _read_tiff(_source(file, content))
    return picture


def _source(file: Path, content: bytes | None) -> Path | io.BytesIO:
    return file if content is None else io.BytesIO(content)


def _checked(values: np.ndarray) -> np.ndarray:
    if values.ndim not in (2, 3) or values.dtype.kind not in "biuf" or not values.size:
        raise ValueError(f"an array of {values.dtype} {list(values.shape)} is no picture; [H, W] or [H, W, C] is")
    return values


def _read_png(content: bytes) -> np.ndarray:
    import torch
    from torchvision.io import ImageReadMode, decode_png

    coded = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    try:
        values = decode_png(coded, ImageReadMode.UNCHANGED)
    except RuntimeError as error:
        raise ValueError(str(error).splitlines()[0]) from error
    return values.permute(1, 2, 0).numpy()


def _has_tifffile() -> bool:
    from importlib.util import find_spec

    return find_spec("tifffile") is not None


def _read_tiff(file: Path | io.BytesIO) -> np.ndarray:
    """Read the first picture of a TIFF; the channels are moved to the end where the file has them in front."""
    if not _has_tifffile():
        raise ValueError("a TIFF of these channels needs the package tifffile: pip install 'oakleaf[tiff]'")
    import tifffile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with tifffile.TiffFile(file) as tiff:
                series = tiff.series[0]
                values, axes = series.asarray(), series.axes
        except (tifffile.TiffFileError, IndexError, KeyError, TypeError) as error:
            raise ValueError(f"the TIFF can't be read ({error})") from error
    if values.ndim == 3 and axes[-2:] == "YX":
        values = values.transpose(1, 2, 0)
    return _checked(values)


@contextmanager
def reading(picture: Picture) -> Iterator[Picture]:
    """Close a picture at the end of the block; an array needs nothing."""
    if isinstance(picture, Image.Image):
        with picture:
            yield picture
    else:
        yield picture


def picture_size(picture: Picture) -> tuple[int, int]:
    """Return (height, width) of a picture after the rotation that its EXIF data say, without decoding it."""
    if not isinstance(picture, Image.Image):
        return picture.shape[0], picture.shape[1]
    # PIL reports the size of a TIFF after the rotation already
    rotated = picture.format != "TIFF" and picture.getexif().get(ExifTags.Base.Orientation, 1) > 4
    return (picture.width, picture.height) if rotated else (picture.height, picture.width)


def channels_of(picture: Picture) -> int:
    """Return the number of channels of a picture, opacity included."""
    if not isinstance(picture, Image.Image):
        return 1 if picture.ndim == 2 else picture.shape[2]
    if has_opacity(picture):
        return 2 if picture.mode in ("LA", "La") else 4
    return 1 if is_grey(picture) else 3


def has_opacity(picture: Picture) -> bool:
    """Return whether a picture of Pillow's has an opacity, be all of it opaque or not."""
    return isinstance(picture, Image.Image) and (
        picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info
    )


def is_deep(picture: Picture) -> bool:
    """Return whether a picture has values of more than 8 bits, or is an array."""
    return not isinstance(picture, Image.Image) or picture.mode.startswith(("I", "F"))


def is_grey(picture: Picture) -> bool:
    """Return whether a picture is stored as grey: by its mode, or by the colours of its palette if it has one."""
    if not isinstance(picture, Image.Image):
        return channels_of(picture) == 1
    if picture.mode in ("P", "PA"):
        return has_only_grey_pixels(picture)
    return picture.mode in ("1", "L", "LA", "La") or is_deep(picture)


def has_only_grey_pixels(picture: Image.Image) -> bool:
    """Return whether every pixel is grey, whatever the mode of the picture."""
    pixels = np.asarray(to_8bit(picture, 3))
    return bool((pixels == pixels[:, :, :1]).all())


def to_8bit(picture: Image.Image, channels: int, background: str = "white") -> Image.Image:
    """Convert a picture of any mode to 8 bits a channel.

    16-bit values are scaled to 8 bits, floating-point values are taken as [0, 1] or, where one exceeds 1, as [0, 255],
    and transparent pixels are blended with the background. For a single picture, such as a mask; the range of a set's
    deep pictures is decided for all of them (`values`).

    Args:
        picture: of any mode.
        channels: 1 for grey ("L"), 3 for colour ("RGB"), 4 for colour and opacity ("RGBA").
        background: a name of Pillow's colours.
    """
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture, dtype=np.float64)
        top = 65535.0 if picture.mode.startswith("I") else 1.0 if values.max(initial=0) <= 1 else 255.0
        picture = Image.fromarray(np.round(values.clip(0, top) * (255.0 / top)).astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        if channels != 4:
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, background), picture)
    return picture.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])

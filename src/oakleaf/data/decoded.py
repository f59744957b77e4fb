"""The decoded images of a source: the settings of the decoding, and access to the cached result."""

import logging
from dataclasses import astuple
from pathlib import Path
from typing import Literal

import numpy as np

from oakleaf.config.types import Size, height_width
from oakleaf.data.cache import OnCorrupt, decode_to_cache
from oakleaf.data.decoding import UNREADABLE
from oakleaf.data.resize import Crop, CropResize, Resample, exif_size, has_only_grey_pixels, is_grey
from oakleaf.data.sources import Source
from oakleaf.errors import UserError

log = logging.getLogger(__name__)

INSPECTED = 64  # pictures that are opened to find out the number of channels


class DecodedImages:
    """The pictures of a source as images of one shape, which are decoded once and then read from the cache on disk.

    Args:
        source: the pictures.
        channels: 1 or 3; null: 1 if 64 pictures from all over the set are grey, else 3.
        size: of the images, in pixels; null: the size of the first picture.
        crop: see `CropResize`.
        resample: see `CropResize`; ignored in favour of "nearest" where the source's pixels must not be mixed.
        on_corrupt: "error" or "skip", for a picture that cannot be read or is too small.
        cache: the folder of the decoded-image cache.

    Attributes:
        resize: the `CropResize` that follows from the arguments.

    Raises:
        UserError: the channels or the size are to be found out, and a picture cannot be read.
    """

    def __init__(
        self,
        source: Source,
        channels: Literal[1, 3] | None,
        size: Size | None,
        crop: Crop,
        resample: Resample,
        on_corrupt: OnCorrupt,
        cache: Path,
    ) -> None:
        self.source, self.on_corrupt, self.cache = source, on_corrupt, cache
        grey, first_size = False, (0, 0)
        if channels is None or size is None:
            grey, first_size = self._inspect(report_grey=not channels)
        height, width = first_size if size is None else height_width(size)
        method: Resample = resample if source.mixes else "nearest"
        self.resize = CropResize(channels or (1 if grey else 3), height, width, crop, method, source.upscale)

    def prepare(self) -> None:
        """Decode the pictures, unless the cache has them already."""
        decode_to_cache(self.source, self.resize, self.on_corrupt, self.cache)

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the images, and log a warning if some were skipped.

        Returns:
            The images, uint8 [N, C, H, W], memory-mapped; and the number of each image in the source, [N].
        """
        images, kept, skipped = decode_to_cache(self.source, self.resize, self.on_corrupt, self.cache)
        if skipped:
            log.warning("%d of %d pictures skipped, the first: %s", len(skipped), len(self.source), skipped[0])
        return images, kept

    @property
    def digest(self) -> tuple[str, tuple[object, ...], str]:
        """Everything that the images depend on."""
        return self.source.digest, astuple(self.resize), self.on_corrupt

    def _inspect(self, report_grey: bool) -> tuple[bool, tuple[int, int]]:
        """Whether pictures from all over the set are grey, and (height, width) of the first one.

        report_grey: log it if all are grey but some are stored as colour; the rest of the set may be in colour.
        """
        grey, only_grey_pixels, sizes = [], report_grey, []
        for index in sorted({i * len(self.source) // INSPECTED for i in range(INSPECTED)}):
            try:
                with self.source.read(index) as picture:
                    grey.append(is_grey(picture))
                    only_grey_pixels = only_grey_pixels and (grey[-1] or has_only_grey_pixels(picture))
                    sizes.append(exif_size(picture))
            except UNREADABLE as error:
                if self.on_corrupt == "error":
                    raise UserError(f"{self.source.name(index)}: can't be read ({error})") from error
        if not sizes:
            raise UserError(
                f"{self.source.name(0)} and all others that were tried can't be read; is this a folder of pictures?"
            )
        if only_grey_pixels and not all(grey):
            log.info("grey pictures are stored in colour; data.channels=1 loads them as grey")
        return all(grey), sizes[0]


def read_pairs(image: DecodedImages, input: DecodedImages) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read paired images and inputs, without the pairs of which one side was skipped.

    Args:
        image: the images.
        input: the inputs; number i belongs to image number i.

    Returns:
        Images [N, C, H, W], inputs [N, C', H, W], both uint8, and the number of each pair in the source, [N].
    """
    (images, image_numbers), (inputs, input_numbers) = image.read(), input.read()
    both = np.intersect1d(image_numbers, input_numbers)
    if len(both) == len(image_numbers) == len(input_numbers):
        return images, inputs, both
    return images[np.isin(image_numbers, both)], inputs[np.isin(input_numbers, both)], both

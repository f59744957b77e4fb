"""A source's pictures as they are kept: all of one shape, as bytes, from the cache on disk."""

import logging
from dataclasses import astuple
from pathlib import Path
from typing import Literal

import numpy as np

from oakleaf.data.cache import OnCorrupt, decode_to_cache
from oakleaf.data.decoding import UNREADABLE
from oakleaf.data.resize import Crop, CropResize, Resample, exif_size, has_only_grey_pixels, is_grey
from oakleaf.data.sources import Source
from oakleaf.errors import UserError
from oakleaf.networks.layers import Size, height_width

log = logging.getLogger(__name__)

PEEK = 64  # pictures looked at to learn the set's channels


class DecodedImages:
    """channels: null: 1 if the pictures are grey, else 3; size: null: that of the first picture; crop, resample: see
    `CropResize`; on_corrupt, cache: see `decoded`."""

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
        grey, first = self._peek(not channels) if channels is None or size is None else (False, (0, 0))
        height, width = first if size is None else height_width(size)
        method: Resample = resample if source.mixes else "nearest"
        self.fit = CropResize(channels or (1 if grey else 3), height, width, crop, method, source.upscale)

    def prepare(self) -> None:
        """Decode, if that was not yet done."""
        decode_to_cache(self.source, self.fit, self.on_corrupt, self.cache)

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Images uint8 [N, C, H, W], memory-mapped, and their numbers in the source [N]; what was skipped is told."""
        images, kept, skipped = decode_to_cache(self.source, self.fit, self.on_corrupt, self.cache)
        if skipped:
            log.warning("%d of %d pictures skipped, the first: %s", len(skipped), len(self.source), skipped[0])
        return images, kept

    @property
    def digest(self) -> tuple[str, tuple[object, ...], str]:
        return self.source.digest, astuple(self.fit), self.on_corrupt

    def _peek(self, unsure: bool) -> tuple[bool, tuple[int, int]]:
        """Whether pictures from all over the set are grey, and (height, width) of the first. unsure: those that are
        grey but stored in colour are told of; others of the set may have colours."""
        grey, colourless, sizes = [], unsure, []
        for index in sorted({i * len(self.source) // PEEK for i in range(PEEK)}):
            try:
                with self.source.read(index) as picture:
                    grey.append(is_grey(picture))
                    colourless = colourless and (grey[-1] or has_only_grey_pixels(picture))
                    sizes.append(exif_size(picture))
            except UNREADABLE as error:
                if self.on_corrupt == "error":
                    raise UserError(f"{self.source.name(index)}: can't be read ({error})") from error
        if not sizes:
            raise UserError(f"{self.source.name(0)} and what follows can't be read; is this a folder of pictures?")
        if colourless and not all(grey):
            log.info("pictures that are grey are stored in colour; data.channels=1 takes them as grey")
        return all(grey), sizes[0]


def read_pairs(image: DecodedImages, other: DecodedImages) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs: the images, what belongs to them, and their numbers; a pair of which one was skipped is left out."""
    (images, first), (others, second) = image.read(), other.read()
    both = np.intersect1d(first, second)
    if len(both) == len(first) == len(second):
        return images, others, both
    return images[np.isin(first, both)], others[np.isin(second, both)], both

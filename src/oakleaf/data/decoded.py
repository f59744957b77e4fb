"""The decoded images of a source: what is decided for the whole set, and access to the cached result."""

import json
import logging
from collections import Counter
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from oakleaf.config.types import Size, height_width
from oakleaf.data.cache import Notes, OnCorrupt, decode_to_cache
from oakleaf.data.decoding import UNREADABLE, observe_all
from oakleaf.data.pictures import (
    Picture,
    channels_of,
    has_only_grey_pixels,
    has_opacity,
    is_deep,
    is_grey,
    picture_size,
    reading,
)
from oakleaf.data.resize import Background, Crop, CropResize, Resample
from oakleaf.data.sources import Source
from oakleaf.data.values import (
    FULL_SCALE,
    LITTLE,
    Observed,
    ValueRange,
    array_of,
    common_channels,
    decide_range,
    is_channels_last,
)
from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import atomic_write

log = logging.getLogger(__name__)

INSPECTED = 64  # pictures from all over the set by which channels, size and type of values are decided


class DecodedImages:
    """The pictures of a source as images of one shape, which are decoded once and then read from the cache on disk.

    Args:
        source: the pictures.
        channels: of the images; null: 1 if 64 pictures from all over the set are grey, the number of their channels if
            it is none of Pillow's, else 3.
        size: of the images, in pixels; null: the size of the first picture.
        crop: see `CropResize`.
        resample: see `CropResize`; ignored in favour of "nearest" where the source's pixels must not be mixed.
        on_corrupt: "error" or "skip", for a picture that cannot be read or is too small.
        cache: the folder of the decoded-image cache.
        range: (low, high), the values that mean black and white; null: decided for the set; see `values`.
        background: behind transparent pixels; see `CropResize`.

    Attributes:
        resize: the `CropResize` that follows from the arguments.
        chosen_channels: whether the number of channels was decided by the pictures.

    Raises:
        UserError: something is to be found out, and a picture cannot be read; pictures do not fit together.
    """

    def __init__(
        self,
        source: Source,
        channels: int | None,
        size: Size | None,
        crop: Crop,
        resample: Resample,
        on_corrupt: OnCorrupt,
        cache: Path,
        range: tuple[float, float] | None = None,
        background: Background = "white",
    ) -> None:
        self.source, self.on_corrupt, self.cache = source, on_corrupt, cache
        self.chosen_channels = channels is None
        found = _Inspection(source, on_corrupt, closely=channels is None or size is None)
        height, width = found.first_size if size is None else height_width(size)
        channels = found.channels() if channels is None else channels
        method: Resample = resample if source.mixes else "nearest"
        self.resize = CropResize(channels, height, width, crop, method, source.upscale, background=background)
        if found.deep or range is not None:
            self.resize = replace(self.resize, range=self._range(found, range))

    def _range(self, found: "_Inspection", given: tuple[float, float] | None) -> ValueRange:
        """The range of values of the set; all pictures are read for it if it is their smallest and largest value."""
        if not set(found.observed.types) <= FULL_SCALE.keys():
            return decide_range(self._observed_values, given, report=False)
        return decide_range(found.observed, given, report=False)

    @cached_property
    def _observed_values(self) -> Observed:
        """The values of all pictures, which are kept in the cache."""
        file = self.cache.expanduser() / "ranges" / f"{self.source.digest}.json"
        if not file.is_file():
            observed = observe_all(self.source)
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(file) as part:
                part.write_text(json.dumps(observed.as_json()))
        return Observed.from_json(json.loads(file.read_text()))

    def prepare(self) -> None:
        """Decode the pictures, unless the cache has them already."""
        decode_to_cache(self.source, self.resize, self.on_corrupt, self.cache)

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the images, and log a warning if some were skipped or lost something.

        Returns:
            The images, [N, C, H, W], memory-mapped; and the number of each image in the source, [N].
        """
        images, kept, skipped, notes = decode_to_cache(self.source, self.resize, self.on_corrupt, self.cache)
        if skipped:
            log.warning("%d of %d pictures skipped, the first: %s", len(skipped), len(self.source), skipped[0])
        self._report(notes)
        return images, kept

    def _report(self, notes: Notes) -> None:
        """Log what the images lack that the pictures have, with numbers."""
        black, white = self.resize.range.low, self.resize.range.high
        if notes.colours and self.chosen_channels:
            log.warning("%d pictures have colours that channels=1 drops; data.channels=3 keeps them", notes.colours)
        if notes.clipped:
            log.warning(
                "%d pictures have values from %g to %g, clipped to %g to %g; data.range=[low,high] changes that",
                notes.clipped, notes.low, notes.high, black, white,
            )  # fmt: skip
        if notes.high is not None and notes.high - (notes.low or 0) < LITTLE * (white - black):
            used = 100 * (notes.high - notes.low) / (white - black)  # type: ignore[operator]
            log.warning(
                "the values of all pictures are from %g to %g, %.1f %% of the range %g to %g (black to white); "
                "data.range=[%g,%g] uses all of it", notes.low, notes.high, used, black, white, notes.low, notes.high,
            )  # fmt: skip

    @property
    def digest(self) -> tuple[str, tuple[object, ...], str]:
        """Everything that the images depend on."""
        return self.source.digest, self.resize.key, self.on_corrupt


def read_pairs(image: DecodedImages, input: DecodedImages) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read paired images and inputs, without the pairs of which one side was skipped.

    Args:
        image: the images.
        input: the inputs; number i belongs to image number i.

    Returns:
        Images [N, C, H, W] and inputs [N, C', H, W] as they are stored, and the number of each pair in the source, [N].
    """
    (images, image_numbers), (inputs, input_numbers) = image.read(), input.read()
    both = np.intersect1d(image_numbers, input_numbers)
    if len(both) == len(image_numbers) == len(input_numbers):
        return images, inputs, both
    return images[np.isin(image_numbers, both)], inputs[np.isin(input_numbers, both)], both


class _Inspection:
    """What is found in pictures from all over a set.

    Args:
        source: the pictures.
        on_corrupt: "error": a picture that cannot be read is an error.
        closely: whether grey pictures that are stored in colour are looked for.

    Attributes:
        counts: the channels of each picture, opacity included.
        grey: whether all are stored as grey.
        first_size: (height, width) of the first one.
        deep: whether one has values of more than 8 bits, or is an array.
        observed: the values, if there are deep pictures.
    """

    def __init__(self, source: Source, on_corrupt: OnCorrupt, closely: bool) -> None:
        self.source, self.on_corrupt, self.closely = source, on_corrupt, closely
        self.counts: list[int] = []
        self.sizes: list[tuple[int, int]] = []
        self.observed = Observed()
        self.deep, self.grey, self.only_grey_pixels, self.opacity = False, True, closely, 0
        for index in sorted({i * len(source) // INSPECTED for i in range(INSPECTED)}):
            try:
                with reading(source.read(index)) as picture:
                    self._inspect(picture)
            except UserError as error:
                if on_corrupt == "error":
                    raise UserError(f"{source.name(index)}: {error}") from error
            except UNREADABLE as error:
                if on_corrupt == "error" and closely:
                    raise UserError(f"{source.name(index)}: can't be read ({error})") from error
        if not self.sizes and closely:
            raise UserError(
                f"{source.name(0)} and all others that were tried can't be read; is this a folder of pictures?"
            )

    def _inspect(self, picture: Picture) -> None:
        grey = is_grey(picture)
        self.grey = self.grey and grey
        if self.closely:
            self.only_grey_pixels = self.only_grey_pixels and (
                grey or (isinstance(picture, Image.Image) and not is_deep(picture) and has_only_grey_pixels(picture))
            )
        self.counts.append(channels_of(picture))
        self.opacity += has_opacity(picture)
        self.sizes.append(picture_size(picture))
        if is_deep(picture):
            self.deep = True
            self.observed.add(array_of(picture, is_channels_last(picture)))
        elif "uint8" not in self.observed.types:
            self.observed.types.append("uint8")

    @property
    def first_size(self) -> tuple[int, int]:
        return self.sizes[0]

    def channels(self) -> int:
        """The channels of the images, where they are not configured."""
        if self.only_grey_pixels and not self.grey:
            log.info("grey pictures are stored in colour; data.channels=1 loads them as grey")
        if self.opacity:
            log.info(
                "%d of %d pictures have an opacity, and are shown on data.background; data.channels=4 keeps it",
                self.opacity, len(self.counts),
            )  # fmt: skip
        try:
            return common_channels(self.counts)
        except UserError as error:
            counts = ", ".join(f"{number} have {count}" for count, number in sorted(Counter(self.counts).items()))
            raise UserError(f"{error}: of {len(self.counts)} pictures, {counts} channels") from error

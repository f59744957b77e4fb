"""Items of a user's data as rows: what is learned from some of them, and the conversion of every one.

`oakleaf.data.protocol` describes what an item may be.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from oakleaf.config.types import Size, height_width
from oakleaf.data.pictures import is_deep
from oakleaf.data.protocol import dimensions, rows_of
from oakleaf.data.resize import Background, Crop, CropResize, PictureTooSmall, Resample
from oakleaf.data.sampling import Rows
from oakleaf.data.values import Observed, ValueRange, array_of, common_channels, decide_range, is_channels_last
from oakleaf.data.vocabulary import tokenize, word_indices
from oakleaf.errors import UserError

log = logging.getLogger(__name__)

PICTURES = ("image", "input")


@dataclass(frozen=True)
class ItemOptions:
    """What the configuration says about items; None is learned from them.

    Args:
        columns: the item's own key for a row, by the row's name.
        size: of the images, in pixels.
        channels: of the images.
        range: the values that mean black and white.
        background: white, grey or black, behind transparent pixels.
        crop: see `CropResize`.
        resample: see `CropResize`.
        upscale: see `CropResize`.
    """

    columns: Mapping[str, str] | None = None
    size: Size | None = None
    channels: int | None = None
    range: tuple[float, float] | None = None
    background: Background = "white"
    crop: Crop = "center"
    resample: Resample = "bilinear"
    upscale: bool = False


class ItemFormat:
    """The form that all items of a set share, learned from some of them.

    Args:
        items: some items of the set, or some batches of its loader.
        options: what the configuration says.
        batched: whether they are batches.

    Attributes:
        keys: the names of the rows beside `image`.
        channels: of the images.
        size: (H, W) of the images.
        input_channels: of the inputs; 0 without.
        range: the values that mean black and white.
        classes: the names by which labels are numbered, if labels are texts; or the vocabulary, if captions are.
        clipped: the values beyond the range that were met, (lowest, highest); None as long as there are none.

    Raises:
        UserError: there is no image in an item, or items do not fit together.
    """

    def __init__(self, items: Sequence[Any], options: ItemOptions, batched: bool = False) -> None:
        self.options, self.batched = options, batched
        rows = [rows_of(item, options.columns, batched) for item in items]
        first = rows[0]
        self.channels_last = {name: is_channels_last(_one(first[name], batched)) for name in PICTURES if name in first}
        arrays = {name: self._arrays(rows, name) for name in self.channels_last}
        observed = Observed()
        for array in [array for named in arrays.values() for array in named]:
            observed.add(array)
        self.range: ValueRange = decide_range(observed, options.range)
        shape = arrays["image"][0].shape
        self.channels = options.channels or common_channels([array.shape[0] for array in arrays["image"]])
        self.size = (shape[1], shape[2]) if options.size is None else height_width(options.size)
        inputs = arrays.get("input", [])
        self.input_channels = common_channels([array.shape[0] for array in inputs]) if inputs else 0
        self.keys = [name for name, value in first.items() if name != "image" and self._is_kept(name, value)]
        if dropped := [name for name in first if name != "image" and name not in self.keys]:
            log.info("keys of an item that are not used, as they hold no numbers: %s", ", ".join(map(str, dropped)))
        self.classes: list[str] = []
        self.clipped: tuple[float, float] | None = None

    def _arrays(self, rows: Sequence[Mapping[str, Any]], name: str) -> list[np.ndarray]:
        values = [row[name] for row in rows]
        if self.batched:
            values = [value for batch in values for value in batch]
        return [array_of(value, self.channels_last[name]) for value in values]

    def _is_kept(self, name: str, value: Any) -> bool:
        value = _one(value, self.batched)
        return name in ("label", "input", "caption") or (
            not isinstance(value, str | bytes) and np.asarray(value).dtype.kind in "biuf"
        )

    def rows(self, item: Any, only: Sequence[str] | None = None) -> dict[str, Any]:
        """Convert an item.

        Args:
            item: what the set returned.
            only: the names of the rows that are needed; None: all.

        Returns:
            `image` and `input` [C, H, W] as they are stored, and further rows as arrays.

        Raises:
            UserError: the item has no image, or lacks a row that the first items have.
        """
        values = rows_of(item, self.options.columns)
        names = ["image", *self.keys] if only is None else only
        if missing := [name for name in names if name not in values]:
            raise UserError(f"an item has no `{missing[0]}`, which the first items have")
        return {name: self._row(name, values[name]) for name in names}

    def _row(self, name: str, value: Any) -> Any:
        if name in PICTURES:
            return self.picture(value, name)
        if name == "label":
            return np.int64(self.label(value))
        if isinstance(value, str) or (dimensions(value) == 1 and len(value) and isinstance(value[0], str)):
            texts = [value] if isinstance(value, str) else value
            return word_indices([tokenize(" ".join(texts))], self.classes)[0]
        array = np.asarray(value)
        return array.astype(np.float32 if array.dtype.kind == "f" else np.int64)

    def label(self, value: Any) -> int:
        """Return the number of a label: the number itself, or that of a name; -1 for None, no label."""
        if value is None:
            return -1
        if isinstance(value, str):
            if value not in self.classes:
                raise UserError(f"the label {value!r} is none of the classes {', '.join(self.classes[:20])}")
            return self.classes.index(value)
        if int(value) >= len(self.classes) > 0:
            raise UserError(
                f"the label {int(value)} is met, and there are {len(self.classes)} classes, from 0 on; "
                "data.classes=NUMBER, or the attribute `classes` of the data set, says how many there are"
            )
        return int(value)

    def picture(self, value: Any, name: str = "image") -> np.ndarray:
        """Convert an image, or an input, to the form in which it is stored.

        Returns:
            [C, H, W], uint8 or float32 in [-1, 1].

        Raises:
            UserError: it is smaller than the configured size, or has channels that cannot be converted.
        """
        channels = self.channels if name == "image" else self.input_channels
        resize = self.crop_resize(channels)
        try:
            if isinstance(value, Image.Image) and not is_deep(value):
                return resize(value)
            values = array_of(value, self.channels_last[name])
            if self._is_stored(values, channels):
                return np.ascontiguousarray(values)
            self.note(values)
            return resize.array(values)
        except PictureTooSmall as error:
            advice = error.advice.replace("data.source.", "data.")
            raise UserError(f"an image of {error}. {advice}") from error

    def crop_resize(self, channels: int) -> CropResize:
        """Return the cropping and resizing of images with so many channels."""
        options = self.options
        height, width = self.size
        crop, method, upscale = options.crop, options.resample, options.upscale
        return CropResize(
            channels, height, width, crop, method, upscale, range=self.range, background=options.background
        )

    def _is_stored(self, values: np.ndarray, channels: int) -> bool:
        """Whether an image has the form in which it is stored."""
        plain = values.dtype == np.uint8 and (self.range.low, self.range.high) == (0, 255)
        return plain and values.shape == (channels, *self.size) and not isinstance(self.options.crop, int)

    def note(self, values: Any) -> None:
        """Remember values beyond the range, which are clipped, and log a warning for the first of them."""
        low, high = float(values.min()), float(values.max())
        black, white = self.range.ends(str(values.dtype).removeprefix("torch."))
        margin = 1e-3 * (white - black)
        if low >= black - margin and high <= white + margin:
            return
        if self.clipped is None:
            log.warning(
                "an image has values from %g to %g and is clipped to %g to %g, the range of the first images; "
                "data.range=[low,high] sets another",
                low, high, black, white,
            )  # fmt: skip
        before = self.clipped or (low, high)
        self.clipped = min(before[0], low), max(before[1], high)

    def batch(self, batch: Any) -> Rows:
        """Convert a batch of a data module's loader; on the device where it is.

        Args:
            batch: tensors [B, ...], or lists of B values.

        Returns:
            `image` and `input` [B, C, H, W] as they are stored, and further rows as tensors.
        """
        values = rows_of(batch, self.options.columns, batched=True)
        names = ["image", *self.keys]
        if missing := [name for name in names if name not in values]:
            raise UserError(f"a batch has no `{missing[0]}`, which the first batch has")
        return {name: self._batch_row(name, values[name]) for name in names}

    def _batch_row(self, name: str, value: Any) -> Tensor:
        if name in PICTURES and isinstance(value, Tensor):
            return self._batch_pictures(name, value)
        if isinstance(value, Tensor):
            return value.long() if not value.is_floating_point() else value.float()
        return stack([self._row(name, one) for one in value])

    def _batch_pictures(self, name: str, images: Tensor) -> Tensor:
        """Pictures of a batch: converted at once if only their values are to be scaled, else one by one."""
        channels = self.channels if name == "image" else self.input_channels
        if images.dim() == 3:
            images = images[:, None]
        elif self.channels_last[name]:
            images = images.permute(0, 3, 1, 2)
        if tuple(images.shape[1:]) != (channels, *self.size) or isinstance(self.options.crop, int):
            arrays = [image.permute(1, 2, 0) if self.channels_last[name] else image for image in images.cpu()]
            return stack([self.picture(array, name) for array in arrays]).to(images.device)
        if images.dtype == torch.uint8 and (self.range.low, self.range.high) == (0, 255):
            return images
        unit = ((images.float() - self.range.low) / (self.range.high - self.range.low)).clamp(0, 1)
        return unit.mul(255).round().to(torch.uint8) if self.range.eight_bits else unit * 2 - 1


def stack(values: Sequence[Any]) -> Tensor:
    """Stack the values of one row of several items; vectors of different lengths (captions) are padded with 0.

    Raises:
        UserError: the shapes do not fit together.
    """
    arrays = [np.asarray(value) for value in values]
    if arrays[0].ndim == 1 and len({array.shape for array in arrays}) > 1:
        longest = max(len(array) for array in arrays)
        arrays = [np.pad(array, (0, longest - len(array))) for array in arrays]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise UserError(f"rows of one name have different shapes: {' and '.join(map(str, sorted(shapes)[:2]))}")
    return torch.from_numpy(np.stack(arrays))


def _one(value: Any, batched: bool) -> Any:
    return value[0] if batched else value

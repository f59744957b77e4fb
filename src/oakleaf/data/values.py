"""Pixel values of any type: which of them mean black and white, and how they are stored.

The range is a fact of the set, never of a single picture: a dark picture among bright ones stays dark. It is
`data.range` where that is set, else the attribute `range` of the user's data, else it follows from the type of the
values:

| values | range |
|---|---|
| 8 bits, true and false | 0 to 255, 0 to 1 |
| 16 bits without sign, also beside pictures of 8 bits | 0 to 65,535 |
| floating point, all in [0, 1], in [-1, 1], or whole numbers in [0, 255] | that interval |
| other floating point, other whole numbers | the set's smallest and largest value |

Images whose values are multiples of 1/255 of their range are stored as bytes, all others as float32 in [-1, 1].
"""

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from oakleaf.errors import UserError

log = logging.getLogger(__name__)

GRID = 1e-3  # of a 255th: the largest deviation of a value that counts as a multiple of 1/255 of the range
FULL_SCALE = {"bool": 1.0, "uint8": 255.0, "uint16": 65535.0}  # white, by the type of the values
LITTLE = 0.25  # a set that uses less than this share of its range is reported


class OtherValues(UserError, ValueError):
    """The values of an image have a type that does not fit those of the set."""


@dataclass
class Observed:
    """The values of some images, as they are observed one after the other.

    Attributes:
        low: the smallest value.
        high: the largest value.
        types: the names of the types, in the order of their appearance.
        on_grid: the conventional ranges of floating point in which all values are multiples of 1/255 of the range.
    """

    low: float = float("inf")
    high: float = float("-inf")
    types: list[str] = field(default_factory=list)
    on_grid: dict[tuple[float, float], bool] = field(
        default_factory=lambda: dict.fromkeys([(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)], True)
    )

    def join(self, other: "Observed") -> None:
        """Add what was observed in other images."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.types += [name for name in other.types if name not in self.types]
        self.on_grid = {ends: still and other.on_grid[ends] for ends, still in self.on_grid.items()}

    def as_json(self) -> dict[str, Any]:
        """Return what was observed as plain values."""
        return {"low": self.low, "high": self.high, "types": self.types, "on_grid": list(self.on_grid.values())}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Observed":
        """Return what `as_json` stored."""
        observed = cls(content["low"], content["high"], content["types"])
        observed.on_grid = dict(zip(observed.on_grid, content["on_grid"]))
        return observed

    def add(self, values: np.ndarray) -> None:
        """Observe the values of an image.

        Raises:
            UserError: a value is NaN or infinite.
        """
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise UserError("an image has a value that is NaN or infinite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        if str(values.dtype) not in self.types:
            self.types.append(str(values.dtype))
        if values.dtype.kind == "f":
            for ends, still in self.on_grid.items():
                self.on_grid[ends] = still and _is_on_grid(values, *ends)


@dataclass(frozen=True)
class ValueRange:
    """The values of a set that mean black and white.

    Attributes:
        low: black.
        high: white.
        eight_bits: whether images are stored as bytes, without loss.
        by_type: an image of 8 bits and one of 16 bits have the range of their type each.
    """

    low: float = 0.0
    high: float = 255.0
    eight_bits: bool = True
    by_type: bool = True

    def ends(self, dtype: Any) -> tuple[float, float]:
        """Return the values of black and white for an image of a type.

        Raises:
            OtherValues: the set has bytes, and this type has no range of its own.
        """
        if not self.by_type:
            return self.low, self.high
        if str(dtype) not in FULL_SCALE:
            raise OtherValues(f"has values of {dtype}, and the set has bytes: data.range=[low,high] says what is black")
        return 0.0, FULL_SCALE[str(dtype)]

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Return values as float32 where black is 0 and white is 1; values beyond are clipped."""
        low, high = self.ends(values.dtype)
        unit = (values.astype(np.float64) - low) / (high - low)  # 32 bits are too few for differences of large integers
        return unit.clip(0, 1).astype(np.float32)

    def stored(self, scaled: np.ndarray) -> np.ndarray:
        """Return values in [0, 1] as they are stored: bytes, or float32 in [-1, 1]."""
        return np.round(scaled * 255).astype(np.uint8) if self.eight_bits else scaled * 2 - 1


BYTES = ValueRange()  # of ordinary pictures


def decide_range(observed: Observed, given: Sequence[float] | None = None, report: bool = True) -> ValueRange:
    """Return the range of a set, and log it where the type of the values does not settle it.

    Args:
        observed: values of the set.
        given: (low, high), from the configuration or the user's data; None: decided by the values.
        report: whether to log a warning if the set uses little of its range.

    Raises:
        UserError: the values have types that do not fit together, or are all equal; the given range is none.
    """
    if given is not None and not (np.isfinite(given).all() and given[0] < given[1]):
        raise UserError(f"data.range=[{given[0]:g},{given[1]:g}]: black comes first, and white is a larger number")
    if given is not None and tuple(given) == (0, 65535) and "uint16" in observed.types:
        given = None  # it is what would be decided
    if len(observed.types) > 1 and given is None:
        kinds = " and ".join(observed.types)
        if not set(observed.types) <= FULL_SCALE.keys():
            raise UserError(f"images have values of the types {kinds}; data.range=[low,high] says what is black, white")
        log.info("values: of the types %s; black and white are the ends of each type", kinds)
        return ValueRange(0, 65535 if "uint16" in observed.types else 255, "uint16" not in observed.types, True)
    kind = np.dtype(observed.types[0])
    if given is not None:
        low, high = map(float, given)
        grid = kind.kind == "f" and observed.on_grid.get((low, high), False)
        return ValueRange(low, high, (kind == np.uint8 and (low, high) == (0, 255)) or grid, False)
    if kind in (np.uint8, np.bool_):
        return BYTES if kind == np.uint8 else ValueRange(0, 1)
    if kind == np.uint16:
        return _reported(ValueRange(0, 65535, False), observed, report)
    fitting = [ends for ends in observed.on_grid if ends[0] <= observed.low and observed.high <= ends[1]]
    if kind.kind == "f" and fitting and (fitting[0][1] == 1 or observed.on_grid[fitting[0]]):
        return _reported(ValueRange(*fitting[0], observed.on_grid[fitting[0]], False), observed, report)
    if observed.low == observed.high:
        raise UserError(f"all pixels have the value {observed.low:g}; data.range=[low,high] says what is black, white")
    log.info(
        "values: %s from %g to %g, which are taken as black and white; data.range=[low,high] sets others",
        kind, observed.low, observed.high,
    )  # fmt: skip
    return ValueRange(observed.low, observed.high, False, False)


def _reported(decided: ValueRange, observed: Observed, report: bool) -> ValueRange:
    """The same range, after a warning if the set uses little of it."""
    if not report:
        return decided
    used = (observed.high - observed.low) / (decided.high - decided.low)
    if used < LITTLE:
        log.warning(
            "values: from %g to %g, %.1f %% of the range %g to %g (black to white); data.range=[%g,%g] uses it all",
            observed.low, observed.high, 100 * used, decided.low, decided.high, observed.low, observed.high,
        )  # fmt: skip
    return decided


def _is_on_grid(values: np.ndarray, low: float, high: float) -> bool:
    steps = (values.astype(np.float64) - low) * (255 / (high - low))
    return bool(np.abs(steps - np.round(steps)).max() < GRID)


def with_channels(values: np.ndarray, channels: int, background: float = 1.0) -> np.ndarray:
    """Convert scaled images to another number of channels.

    Args:
        values: [..., C, H, W], floating point in [0, 1]. Two channels are grey and opacity, four are colour and
            opacity where fewer are requested.
        channels: the requested number.
        background: the grey in [0, 1] on which transparent pixels are shown.

    Returns:
        [..., channels, H, W].

    Raises:
        UserError: there is no such conversion.
    """
    own = values.shape[-3]
    if own == channels:
        return values
    if own in (2, 4) and channels in (1, 3):
        colour, alpha = values[..., :-1, :, :], values[..., -1:, :, :]
        return with_channels(colour * alpha + background * (1 - alpha), channels)
    if own == 1 and channels in (3, 4):
        grey = np.repeat(values, 3, axis=-3)
        return grey if channels == 3 else with_channels(grey, 4)
    if own == 3 and channels == 1:
        weights = np.array([0.299, 0.587, 0.114], values.dtype)  # ITU-R BT.601, as PIL's
        return np.einsum("c,...chw->...hw", weights, values)[..., None, :, :]
    if own == 3 and channels == 4:
        return np.concatenate([values, np.ones_like(values[..., :1, :, :])], axis=-3)
    raise UserError(f"data.channels={channels}: an image has {own} channels, which cannot be converted")


def array_of(value: Any, channels_last: bool) -> np.ndarray:
    """Return a picture as an array with its own type of values.

    Args:
        value: a tensor, an array, a PIL image, or the bytes of a picture file.
        channels_last: whether an array or tensor of three dimensions is [H, W, C], and not [C, H, W].

    Returns:
        [C, H, W].

    Raises:
        UserError: it is none of these, or has another number of dimensions.
    """
    if isinstance(value, bytes):
        value = Image.open(io.BytesIO(value))
    if isinstance(value, Image.Image):
        return _array_of_picture(value)
    values = np.asarray(value)
    if values.ndim == 2:
        return values[None]
    if values.ndim != 3 or values.dtype.kind not in "biuf":
        raise UserError(f"an image is {type(value).__name__} of {values.dtype} {list(values.shape)}; [C, H, W] is read")
    return values.transpose(2, 0, 1) if channels_last else values


def _array_of_picture(picture: Image.Image) -> np.ndarray:
    sixteen_bits = picture.mode == "I" and picture.format in ("PPM", "PNG")  # Pillow's 32 bits hold 16 of the file
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("P", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA" if picture.mode != "La" else "LA")
    elif picture.mode not in ("1", "L", "LA", "RGB", "RGBA", "F") and not picture.mode.startswith("I"):
        picture = picture.convert("RGB")
    values = np.asarray(picture.convert("L") if picture.mode == "1" else picture)
    values = values.astype(np.uint16) if sixteen_bits or picture.mode.startswith("I;16") else values
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def is_channels_last(value: Any) -> bool:
    """Return whether the last dimension of an array or tensor is that of the channels.

    It is in an array, and it is not in a tensor, except where the sizes say otherwise: the dimension where channels are
    expected has more than 16 entries, and the other has at most 16.

    Args:
        value: an image, with or without a dimension for batches.
    """
    shape = tuple(getattr(value, "shape", ()))
    if isinstance(value, Image.Image | bytes) or len(shape) < 3:
        return False
    first, last = shape[-3], shape[-1]
    by_type = isinstance(value, np.ndarray)
    expected, other = (last, first) if by_type else (first, last)
    return not by_type if expected > 16 >= other else by_type


def common_channels(counts: Sequence[int]) -> int:
    """Return the channels of a set, without opacity; grey images are shown in colour where others are in colour.

    Args:
        counts: the channels of some of its images.

    Raises:
        UserError: they cannot be converted into each other.
    """
    colours = {{2: 1, 4: 3}.get(count, count) for count in counts}
    if len(colours) > 1 and not colours <= {1, 3}:
        found = " and ".join(map(str, sorted(set(counts))))
        raise UserError(f"images have {found} channels, which cannot be converted into each other")
    return max(colours)

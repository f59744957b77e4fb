"""Types of configuration values: ranges of numbers, and the size of an image.

`oakleaf.config.validate` checks every configured value against the annotation of the parameter that it is for, so a
parameter that is annotated with one of these types refuses a value out of range with one sentence. The first four are
pydantic's own types under their own names.
"""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

__all__ = [
    "Fraction",
    "NonNegativeFloat",
    "NonNegativeInt",
    "PositiveFloat",
    "PositiveInt",
    "Probability",
    "Size",
    "Truncation",
    "height_width",
]

Fraction = Annotated[float, Field(ge=0, lt=1)]
"""A number in [0, 1), such as a momentum, a dropout probability or a smoothing amount."""

Probability = Annotated[float, Field(ge=0, le=1)]
"""A number in [0, 1]."""

Truncation = Annotated[float, Field(gt=0, le=1)]
"""The truncation of samples: above 0 and at most 1, which is none."""

Size = PositiveInt | tuple[PositiveInt, PositiveInt]
"""Size of an image in pixels: one number for a square, or (height, width)."""


def height_width(size: Size) -> tuple[int, int]:
    """Return an image size as (height, width).

    Args:
        size: one number for a square image, or (height, width), in pixels.
    """
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width

"""Types of configuration values: ranges of numbers, and the size of an image.

`oakleaf.config.validate` checks every configured value against the annotation of the parameter that it is for, so a
parameter that is annotated with one of these types refuses a value out of range with one sentence.
"""

from typing import Annotated

from annotated_types import Ge, Gt, Lt

PositiveInt = Annotated[int, Ge(1)]  # a count of at least one: 1, 2, ...
NonNegativeInt = Annotated[int, Ge(0)]  # 0, 1, 2, ...
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Lt(1)]  # [0, 1)
Size = PositiveInt | tuple[PositiveInt, PositiveInt]  # of an image, in pixels: one number for a square, or (H, W)


def height_width(size: Size) -> tuple[int, int]:
    """Return an image size as (height, width).

    Args:
        size: one number for a square image, or (height, width), in pixels.
    """
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width

"""Schedules: an optimizer's number as a function of the images seen."""

import math
from dataclasses import dataclass
from typing import Protocol

from oakleaf.config.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt


class Schedule(Protocol):
    """A function from the configured value and the images seen to the value for this step.

    It depends on nothing else, so a resumed run needs no stored scheduler state.
    """

    def __call__(self, base: float, images: int) -> float:
        """Return the value after `images` images; `base` is the configured value."""


@dataclass
class Linear:
    """Keep the value for `after` images, then change it linearly to `to` within `over` images.

    Args:
        to: final value.
        over: images that the change takes.
        after: images before it begins.
    """

    to: NonNegativeFloat
    over: PositiveInt
    after: int = 0

    def __call__(self, base: float, images: int) -> float:
        share = min(max((images - self.after) / self.over, 0.0), 1.0)
        return base + (self.to - base) * share


@dataclass
class Cosine:
    """Change the value to `to` within `over` images, along half a cosine.

    Args:
        to: final value.
        over: images that the change takes.

    Reference: R3GAN's burn-in, Huang 2024, arXiv:2501.05441.
    """

    to: NonNegativeFloat
    over: PositiveInt

    def __call__(self, base: float, images: int) -> float:
        share = min(images / self.over, 1.0)
        return self.to + (base - self.to) * (1 + math.cos(math.pi * share)) / 2


@dataclass
class Exponential:
    """Keep the value for `after` images, then divide it by `divisor` once every `each` images.

    Args:
        divisor: factor of each division.
        each: images between two divisions, e.g. one batch.
        floor: the value does not fall below this.
        after: images before the first division.
    """

    divisor: PositiveFloat
    each: PositiveInt
    floor: NonNegativeFloat = 0.0
    after: NonNegativeInt = 0

    def __call__(self, base: float, images: int) -> float:
        return max(base * self.divisor ** -(max(images - self.after, 0) // self.each), self.floor)

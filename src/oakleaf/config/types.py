"""The number ranges that annotations of configurable parameters use; `oakleaf.config.validate` enforces them.

The first four are pydantic's own types under their own names.
"""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

__all__ = ["Fraction", "NonNegativeFloat", "NonNegativeInt", "PositiveFloat", "PositiveInt"]

Fraction = Annotated[float, Field(ge=0, lt=1)]
"""A number in [0, 1), such as a momentum, a dropout probability or a smoothing amount."""

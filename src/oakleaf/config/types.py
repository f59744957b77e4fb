"""The ranges that a configuration's numbers must lie in. `oakleaf.config.validate` holds each value against its annotation."""

from typing import Annotated

from annotated_types import Ge, Gt, Lt

PositiveInt = Annotated[int, Ge(1)]  # how many: 1, 2, ...
NonNegativeInt = Annotated[int, Ge(0)]  # 0, 1, 2, ...
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Lt(1)]  # [0, 1)

"""A condition by number, name or text."""

import logging
from typing import Any

from torch import Tensor

from oakleaf.errors import UserError

log = logging.getLogger(__name__)


def requested_condition(module: Any, condition: int | str, count: int) -> tuple[str, Tensor]:
    """Return the rows that condition a generator on one class, stored row or text.

    Args:
        module: the `oakleaf.gan.GAN`.
        condition: a class by number or name, a stored row by number, or a text.
        count: number of images.

    Returns:
        The key of the generator's inputs, and its rows [count, ...].

    Raises:
        UserError: the generator has no condition, or not this one.
    """
    encoder = module.game.condition
    if encoder is None:
        raise UserError(f"condition={condition}: this checkpoint's generator is unconditional")
    names = module.classes if encoder.classes else []
    if isinstance(condition, str) and names:
        condition = _class_number(condition, names)
    if isinstance(condition, int) and condition < len(names):
        log.info("class %d: %s", condition, names[condition])
    rows = encoder.from_text(condition, count) if isinstance(condition, str) else encoder.from_index(condition, count)
    return encoder.key, rows


def _class_number(name: str, names: list[str]) -> int:
    if name not in names:
        known = ", ".join(f"{number} {one}" for number, one in enumerate(names[:20])) + (", ..." if names[20:] else "")
        raise UserError(f"condition={name}: there is no class of this name; the classes are {known}")
    return names.index(name)

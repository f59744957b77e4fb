"""Mark most values of a parametrised test as slow, or as long."""

from collections.abc import Container, Iterable
from typing import Any

import pytest


def slow_except(kept: Container[Any], values: Iterable[Any]) -> list[Any]:
    """Return the values as parameters; those that are not kept run only in the full suite.

    Args:
        kept: values that belong to the smoke subset, too.
        values: all values; one of several arguments is a tuple.
    """
    return [value if value in kept else pytest.param(*_arguments(value), marks=pytest.mark.slow) for value in values]


def long_except(kept: Container[Any], values: Iterable[Any]) -> list[Any]:
    """Return the values as parameters; those that are not kept run only with OAKLEAF_LONG=1.

    Args:
        kept: values that belong to the full suite, too.
        values: all values; one of several arguments is a tuple.
    """
    return [value if value in kept else pytest.param(*_arguments(value), marks=pytest.mark.long) for value in values]


def _arguments(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)

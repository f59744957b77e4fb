"""Conversion between Hydra's sweep syntax, Optuna's distributions and a trial's overrides.

`choice(a,b)` or `a,b`, `range(1,9)`, `interval(0,1)`, `tag(log,interval(1e-5,1e-3))` and `int(interval(8,64))`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import create_trial

from oakleaf.errors import UserError
from oakleaf.sweeps.names import SEED, parse, run_overrides

Space = dict[str, BaseDistribution]


def search_space(overrides: Sequence[str]) -> tuple[list[str], Space]:
    """Split a command's overrides into those that every trial has and the search space.

    Raises:
        UserError: nothing is searched, or the seed is.
    """
    parsed = parse(run_overrides(overrides))
    fixed = [o.input_line or "" for o in parsed if not o.is_sweep_override()]
    space = {o.get_key_element(): _distribution(o) for o in parsed if o.is_sweep_override()}
    if not space:
        raise UserError("nothing to search in: give some.key='interval(0,1)', 'tag(log,interval(1e-5,1e-3))' or a,b,c")
    if SEED in space:
        raise UserError("seed=: a search compares single runs; sweep the seeds of the best ones, without hydra/sweeper")
    return fixed, space


def to_overrides(params: Mapping[str, Any]) -> list[str]:
    """Return a trial's parameters as overrides; numbers are rounded to four significant digits."""
    return [f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in params.items()]


def to_params(swept: Sequence[str], space: Space) -> dict[str, Any] | None:
    """Return the parameters of which `to_overrides` has made the given overrides; None if they are not in the space."""
    values = dict(override.split("=", 1) for override in swept)
    try:
        params = {key: _parse_value(values[key], distribution) for key, distribution in space.items()}
        create_trial(params=params, distributions=space, value=0.0)  # raises if a value is outside
    except (KeyError, ValueError):
        return None
    return params if params.keys() == values.keys() else None


def _parse_value(text: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, FloatDistribution):  # the rounded bound may lie outside of the range
        bounds = (distribution.low, distribution.high)
        return next((bound for bound in bounds if f"{bound:.4g}" == text), float(text))
    return int(text) if isinstance(distribution, IntDistribution) else text


def _distribution(override: Override) -> BaseDistribution:
    value: Any = override.value()
    if isinstance(value, IntervalSweep):
        low: Any = value.start
        high: Any = value.end
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log="log" in value.tags)
        return FloatDistribution(float(low), float(high), log="log" in value.tags)
    if isinstance(value, RangeSweep) and isinstance(value.start, int) and isinstance(value.step, int):
        last = range(value.start, int(value.stop or 0), value.step)[-1]
        return IntDistribution(value.start, last, log="log" in value.tags, step=value.step)
    return CategoricalDistribution(list(override.sweep_string_iterator()))

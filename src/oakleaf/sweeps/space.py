"""Hydra's sweep syntax as a space to search in: `choice(a,b)` or `a,b`, `range(1,9)`, `interval(0,1)`,
`tag(log,interval(1e-5,1e-3))`, `int(interval(8,64))`."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import create_trial

from oakleaf.errors import UserError
from oakleaf.sweeps.names import SEED, of_runs, parsed

Space = dict[str, BaseDistribution]


def space(overrides: Sequence[str]) -> tuple[list[str], Space]:
    """What every trial has, and what is searched, by key.

    Raises:
        UserError: nothing is searched, or the seed is.
    """
    given = parsed(of_runs(overrides))
    fixed = [o.input_line or "" for o in given if not o.is_sweep_override()]
    searched = {o.get_key_element(): _distribution(o) for o in given if o.is_sweep_override()}
    if not searched:
        raise UserError("nothing to search in: give some.key='interval(0,1)', 'tag(log,interval(1e-5,1e-3))' or a,b,c")
    if SEED in searched:
        raise UserError("seed=: a search compares single runs; sweep the seeds of what it finds, without hydra/sweeper")
    return fixed, searched


def chosen(params: Mapping[str, Any]) -> list[str]:
    """A trial's parameters as overrides; four digits of a number are enough."""
    return [f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in params.items()]


def params_of(swept: Sequence[str], space: Space) -> dict[str, Any] | None:
    """The parameters that `chosen` wrote so; None of what is not in the space."""
    said = dict(override.split("=", 1) for override in swept)
    try:
        found = {key: _read(said[key], kind) for key, kind in space.items()}
        create_trial(params=found, distributions=space, value=0.0)
    except (KeyError, ValueError):
        return None
    return found if found.keys() == said.keys() else None


def _read(text: str, kind: BaseDistribution) -> Any:
    if isinstance(kind, FloatDistribution):  # four digits may lie a little outside
        return next((end for end in (kind.low, kind.high) if f"{end:.4g}" == text), float(text))
    return int(text) if isinstance(kind, IntDistribution) else text


def _distribution(override: Override) -> BaseDistribution:
    value: Any = override.value()
    if isinstance(value, IntervalSweep):
        return _interval(value.start, value.end, "log" in value.tags)
    if isinstance(value, RangeSweep) and isinstance(value.start, int) and isinstance(value.step, int):
        last = range(value.start, int(value.stop or 0), value.step)[-1]
        return IntDistribution(value.start, last, log="log" in value.tags, step=value.step)
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def _interval(low: Any, high: Any, log: bool) -> BaseDistribution:
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(float(low), float(high), log=log)

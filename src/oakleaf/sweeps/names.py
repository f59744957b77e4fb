"""Names of sweeps and jobs. They depend on the overrides alone, so that the same command finds its folders again."""

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import TypeVar

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import canonical_overrides

MAX_LENGTH = 100  # characters of a job's name
SEED = "seed"
EVALUATION_PREFIX = "sweep."  # of the keys that say how runs are evaluated

T = TypeVar("T")


def sweep_name(overrides: Sequence[str]) -> str:
    """Return the name of a sweep's folder: the swept keys and six digits of a hash, `model-loss-seed-3fa9c1`.

    The hash is of all overrides in any order, without those of the run's length and of the evaluation.
    """
    keys = [_short(override.get_key_element()) for override in parse(overrides) if override.is_sweep_override()]
    words = [re.sub(r"[^\w.]", "", key) for key in _ordered(keys, key=str)]
    return "-".join([*words, _hash(canonical_overrides(overrides))])


def job_name(swept: Sequence[str]) -> str:
    """Return the name of a job by what distinguishes it from the sweep's other jobs: `dcgan-hinge-seed0`.

    Args:
        swept: the job's overrides of swept keys.
    """
    pairs = [override.lstrip("+").partition("=") for override in swept]
    ordered = _ordered(pairs, key=itemgetter(0))
    plain = "-".join(value if _is_group_choice(key, value) else _short(key) + value for key, _, value in ordered)
    name = re.sub(r"[^\w.-]+", "_", plain).strip("._-")
    if name == plain and 0 < len(name) <= MAX_LENGTH:
        return name
    return f"{name[:MAX_LENGTH]}-{_hash(sorted(swept))}"


def combinations(overrides: Sequence[str]) -> list[tuple[list[str], list[str]]]:
    """Return the jobs of a grid.

    Args:
        overrides: the command's overrides, some with several values.

    Returns:
        For each job all of its overrides, and those among them that are swept.

    Raises:
        UserError: a continuous range, which has no grid.
    """
    fixed, swept = [], []
    for override in parse(run_overrides(overrides)):
        if not override.is_sweep_override():
            fixed.append(override.input_line or "")
        elif override.is_discrete_sweep():
            key = override.get_key_element()
            swept.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            raise UserError(
                f"{override.input_line}: a continuous range has no grid; hydra/sweeper=optuna searches in it"
            )
    return [([*fixed, *values], list(values)) for values in itertools.product(*swept)]


def run_overrides(overrides: Sequence[str]) -> list[str]:
    """Return the overrides of the runs, without those of the evaluation (`sweep.*`).

    Raises:
        UserError: a key of the evaluation is swept.
    """
    for override in parse([o for o in overrides if o.startswith(EVALUATION_PREFIX)]):
        if override.is_sweep_override():
            raise UserError(
                f"{override.input_line}: all runs are evaluated alike; write several as sweep.metric=[fid,prdc]"
            )
    return [o for o in overrides if not o.startswith(EVALUATION_PREFIX)]


def parse(overrides: Sequence[str]) -> list[Override]:
    """Parse overrides by Hydra's grammar."""
    return OverridesParser.create().parse_overrides(list(overrides))


def without_seed(swept: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides that a job has in common with its repetitions by other seeds."""
    return tuple(override for override in swept if not override.startswith(f"{SEED}="))


def _short(key: str) -> str:
    """Return a key without its group, at most two parts: `generator.lr` of `optim.generator.lr`."""
    parts = key.lstrip("+~").split("@")[0].split(".")
    return ".".join((parts[1:] or parts)[-2:])


def _is_group_choice(key: str, value: str) -> bool:
    """Tell whether a value needs no key beside it: `dcgan` does not, `0` and `true` do."""
    return "." not in key and key != SEED and not re.match(r"[\d.-]|true$|false$|null$", value)


def _ordered(items: Iterable[T], key: Callable[[T], str]) -> list[T]:
    """Sort by key: groups first (model, loss, data), then single values, the seed last."""
    reverse_alphabetical = sorted(items, key=key, reverse=True)
    return sorted(reverse_alphabetical, key=lambda item: (key(item) == SEED, "." in key(item)))


def _hash(overrides: Sequence[str]) -> str:
    return hashlib.blake2b("\n".join(overrides).encode()).hexdigest()[:6]

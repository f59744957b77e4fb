"""What a sweep and its jobs are called. Names follow from overrides alone, so the same command finds them again."""

import hashlib
import itertools
import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import canonical_overrides

LONGEST = 100  # characters of a job's name
SEED = "seed"
MEASURING = "sweep."


def sweep_name(overrides: Sequence[str]) -> str:
    """The swept keys and six digits that stand for the whole command, its length and its `sweep.` keys aside:
    `model-loss-seed-3fa9c1`."""
    keys = [_last(override.get_key_element()) for override in parsed(overrides) if override.is_sweep_override()]
    return "-".join(
        [*(re.sub(r"[^\w.]", "", key) for key in _ordered(keys)), _digits(canonical_overrides(overrides), 6)]
    )


def job_name(swept: Sequence[str]) -> str:
    """A job is called by what distinguishes it: `dcgan-hinge-seed0`."""
    pairs = [override.lstrip("+").partition("=") for override in swept]
    parts = [value if _is_choice(key, value) else _last(key) + value for key, _, value in _by_key(pairs)]
    plain = "-".join(parts)
    name = re.sub(r"[^\w.-]+", "_", plain).strip("._-")
    if name == plain and 0 < len(name) <= LONGEST:
        return name
    return f"{name[:LONGEST]}-{_digits(sorted(swept), 6)}"


def combinations(overrides: Sequence[str]) -> list[tuple[list[str], list[str]]]:
    """For each job all of its overrides, and those among them that are swept.

    Raises:
        UserError: a range without steps, of which no grid can be made.
    """
    fixed, swept = [], []
    for override in parsed(of_runs(overrides)):
        if not override.is_sweep_override():
            fixed.append(override.input_line or "")
        elif override.is_discrete_sweep():
            key = override.get_key_element()
            swept.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            raise UserError(f"{override.input_line}: no grid of values; hydra/sweeper=optuna searches in it")
    return [([*fixed, *chosen], list(chosen)) for chosen in itertools.product(*swept)]


def of_runs(overrides: Sequence[str]) -> list[str]:
    """Without those that say how runs are measured.

    Raises:
        UserError: they are swept.
    """
    for override in parsed([o for o in overrides if o.startswith(MEASURING)]):
        if override.is_sweep_override():
            raise UserError(f"{override.input_line}: all runs are measured alike; several: sweep.metric=[fid,prdc]")
    return [o for o in overrides if not o.startswith(MEASURING)]


def parsed(overrides: Sequence[str]) -> list[Override]:
    return OverridesParser.create().parse_overrides(list(overrides))


def quoted(value: object) -> str:
    """A value as Hydra's command line takes it, whatever is in it."""
    text = str(value).replace("'", "\\'")
    return f"'{text}'"


def without_seed(swept: Sequence[str]) -> tuple[str, ...]:
    """What a job shares with its repetitions."""
    return tuple(override for override in swept if not override.startswith(f"{SEED}="))


def _last(key: str) -> str:
    """What is left of a key without its group, two parts at most: `generator.lr` of `optim.generator.lr`."""
    parts = key.lstrip("+~").split("@")[0].split(".")
    return ".".join((parts[1:] or parts)[-2:])


def _is_choice(key: str, value: str) -> bool:
    """Whether the value says it all: `dcgan`, but not `0` or `true`."""
    return "." not in key and key != SEED and not re.match(r"[\d.-]|true$|false$|null$", value)


def _ordered(keys: Sequence[str]) -> list[str]:
    """Model before loss before data; then single values; the seed at the end."""
    return sorted(sorted(keys, reverse=True), key=lambda key: (key == SEED, "." in key))


def _by_key(pairs: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    order = _ordered([key for key, _, _ in pairs])
    return sorted(pairs, key=lambda pair: order.index(pair[0]))


def _digits(overrides: Sequence[str], count: int) -> str:
    return hashlib.blake2b("\n".join(overrides).encode()).hexdigest()[:count]

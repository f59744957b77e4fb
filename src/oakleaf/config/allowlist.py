"""What a recipe may ask for. A checkpoint is data, and so is a YAML: of all that Python could run, a recipe builds
classes that are made for recipes. It is decided by name, before anything is imported or called.
"""

import inspect
import os
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, get_type_hints

from hydra.utils import get_object

from oakleaf.errors import UserError, first_line

TRUST = "OAKLEAF_TRUST"  # in the environment: further packages, `mine,yours.networks`; no file can set it
PARTS = {  # by package, where those of its classes are defined that a recipe is made of
    "oakleaf": "callbacks conditioning data export.formats games losses metrics networks optim runtime.distributed "
    "runtime.loggers sampling theory",
    "torch": "nn optim",
    "torchvision": "ops transforms",
    "torchmetrics": "aggregation classification image regression",
    "lightning": "pytorch.callbacks pytorch.loggers pytorch.plugins pytorch.profilers pytorch.strategies "
    "pytorch.trainer",
}
PLACES = tuple(f"{package}.{part}" for package, parts in PARTS.items() for part in parts.split())
NAME = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+")
HARMLESS = re.compile(  # what may follow `${`: a key, or a resolver that computes or tells where our cache is
    r"(\.*\w[\w.]*\}|(times|part|best_precision):|oc\.select:[\w.]+,|oc\.env:OAKLEAF_CACHE[,}])"
)
KEY = re.compile(r"\$\{(?:oc\.select:)?(\.*)(\w[\w.]*)[,}]")
PLAIN = (dict, list, str, int, float, type(None))
DEEP, MANY = 40, 100_000  # levels and values: no recipe of anybody's comes near
LONG = 10_000_000  # characters, once all is resolved


def locate(target: Any, where: str = "_target_") -> Any:
    """The class, or the function that makes one, of that name.

    Raises:
        UserError: there is none, or it is none that a recipe may build; then nothing has been imported.
    """
    trusted = require_allowed_name(target, where)
    module, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        reason = first_line(error)
        raise UserError(f"{where}={target}: there is no such class ({reason})") from error
    home = getattr(found, "__module__", None) or ""
    fit = _within(home, trusted) or (_within(home, PLACES) and _buildable(found))
    if not callable(found) or not fit or get_object(target) is not found:  # what Hydra will find
        raise UserError(_refusal(target, where))
    return found


def require_allowed_name(target: Any, where: str) -> tuple[str, ...]:
    """Whether a recipe may ask for that name, whatever is there; the packages that the user trusts besides.

    Raises:
        UserError: it may not.
    """
    trusted = tuple(filter(None, re.split(r"[,\s]+", os.environ.get(TRUST, ""))))
    module = str(target).rpartition(".")[0]
    if not isinstance(target, str) or not NAME.fullmatch(target) or not _within(module, PLACES + trusted, parents=True):
        raise UserError(_refusal(target, where))
    return trusted


def _within(module: str, places: tuple[str, ...], parents: bool = False) -> bool:
    """parents: a package above may name what is defined below it, `lightning.pytorch.Trainer`."""
    inside = any(f"{module}.".startswith(f"{place}.") for place in places)
    return inside or (parents and bool(module) and any(place.startswith(f"{module}.") for place in places))


def _buildable(found: Any) -> bool:
    """A class; of torch a network, an optimizer or a measure. Of Oakleaf's functions those that stand for one, as
    they say what they return: a source, an optimizer."""
    if inspect.isfunction(found):
        made = get_type_hints(found).get("return")
        return found.__module__.startswith("oakleaf.") and inspect.isclass(made) and _buildable(made)
    if not inspect.isclass(found) or issubclass(found, (BaseException, str, tuple)):
        return False
    if not found.__module__.startswith("torch"):
        return True
    from torch import nn, optim

    return issubclass(found, (nn.Module, optim.Optimizer))


def _refusal(target: Any, where: str) -> str:
    return (
        f"{where}={target}: a recipe builds networks, losses, data and the like of {', '.join(PARTS)}, and nothing "
        f"else. If that is your own package, or one that you trust: {TRUST}=PACKAGE in the environment"
    )


def require_allowed(node: Any) -> None:
    """Look through plain, resolved containers for every class that they name.

    Raises:
        UserError: one that is not to be built; an interpolation, which would be resolved behind our back.
    """
    for where, key, value in _walk(node):
        if isinstance(value, str) and "${" in value:
            raise UserError(f"{where}={value}: an interpolation is left there, where a value is expected")
        if key == "_target_":
            locate(value, where)


def scan_untrusted(recipe: Any, of: str) -> None:
    """Look through a stranger's recipe as it was stored, before any of it is resolved or built.

    Raises:
        UserError: no plain text, numbers and containers; a class that no recipe may build; a resolver that looks at the
            environment or touches the disk.
    """
    places = {}
    for where, key, value in _walk(recipe, of):
        strange = [type(thing).__name__ for thing in (key, value) if not isinstance(thing, PLAIN)]
        if strange:
            raise UserError(f"{of}: its recipe holds a {strange[0]} at {where}, where only text and numbers belong")
        if not is_safe_interpolation(value):
            raise UserError(f"{of}: its recipe would look at this machine, by {where}={value}; it is not opened")
        if key == "_target_":
            try:
                require_allowed_name(value, where)
            except UserError as error:
                raise UserError(f"{of} is not opened: {error}") from error
        places[where] = value
    if _resolved_length("", places, {}, 0) > LONG:
        raise UserError(f"{of}: its recipe refers to itself, or grows without bound when it is read; that is no recipe")


def is_safe_interpolation(value: Any) -> bool:
    """Whether resolving it computes, and does nothing else."""
    return not isinstance(value, str) or all(HARMLESS.match(rest) for rest in value.split("${")[1:])


def _resolved_length(where: str, places: Mapping[str, Any], known: dict[str, int], depth: int) -> int:
    """How long the value there becomes, in characters; far too long where it leads to itself."""
    if depth > DEEP:
        return LONG + 1
    if where not in known:
        value, known[where] = places.get(where), LONG + 1
        parts = [_below(where, key) for key in value] if isinstance(value, dict) else []
        parts += [_below(where, i) for i in range(len(value))] if isinstance(value, list) else []
        parts += [_meant(where, *found) for found in KEY.findall(value)] if isinstance(value, str) else []
        known[where] = (0 if parts and not isinstance(value, str) else len(str(value))) + sum(
            _resolved_length(part, places, known, depth + 1) for part in parts
        )
    return known[where]


def _meant(where: str, dots: str, key: str) -> str:
    """The place that a key at `where` refers to; one with dots begins so many levels above."""
    return ".".join([*where.split(".")[: -len(dots)], key]) if dots else key


def _below(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def _walk(node: Any, of: str = "recipe") -> Iterator[tuple[str, Any, Any]]:
    """Every value below: its dotted place, its key, itself. Not by recursion, as a file may hold a list within
    itself.

    Raises:
        UserError: too deep, or too many.
    """
    waiting: list[tuple[str, Any, Any, int]] = [("", None, node, 0)]
    seen = 0
    while waiting:
        where, key, value, depth = waiting.pop()
        seen += 1
        if depth > DEEP or seen > MANY:
            raise UserError(f"{of}: nested deeper than {DEEP}, or more than {MANY:,} values; that is no recipe")
        yield where, key, value
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        waiting += [(_below(where, name), name, below, depth + 1) for name, below in inner]

"""Which classes a configuration may build.

A configuration names the classes that it builds (`_target_`), and Hydra would import and call any name. A configuration
can come from an untrusted source: a downloaded checkpoint contains one, and so does an exported folder or a YAML file.
Therefore only classes that configurations are made of are allowed: networks, losses, data sets and the like.

A name is checked as text before its module is imported, because importing a module already runs its code: a check of
the imported object would come too late. Only if the name lies in an allowed package, the object is imported and
checked a second time by where it was defined, since a module also contains what it has imported itself
(`oakleaf.data.cache.os.system`).
"""

import inspect
import os
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, get_type_hints

from hydra.utils import get_object

from oakleaf.errors import UserError, first_line

TRUST = "OAKLEAF_TRUST"  # environment variable: further allowed packages, `mine,yours.networks`; no file can set it
ALLOWED_MODULES = {  # by package: the modules in which the allowed classes are defined
    "oakleaf": "augment callbacks conditioning data export.formats frozen games gan losses metrics networks "
    "optim runtime.distributed runtime.loggers sampling theory",
    "torch": "nn optim",
    "torchvision": "ops transforms",
    "torchmetrics": "aggregation classification image regression",
    "lightning": "pytorch.callbacks pytorch.loggers pytorch.plugins pytorch.profilers pytorch.strategies "
    "pytorch.trainer",
}
ALLOWED = tuple(f"{package}.{module}" for package, modules in ALLOWED_MODULES.items() for module in modules.split())
NAME = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+")
SAFE_INTERPOLATION = re.compile(  # what may follow `${`: a key, a resolver that only computes, or the cache's folder
    r"(\.*\w[\w.]*\}|(times|divide|best_precision):|oc\.select:[\w.]+,|oc\.env:OAKLEAF_CACHE[,}])"
)
REFERENCE = re.compile(r"\$\{(?:oc\.select:)?(\.*)(\w[\w.]*)[,}]")
PLAIN_TYPES = (dict, list, str, int, float, type(None))
MAX_DEPTH, MAX_VALUES = 40, 100_000  # far more than a real configuration has
MAX_CHARACTERS = 10_000_000  # after all interpolations are resolved


def locate(target: Any, where: str = "_target_") -> Any:
    """Import and return the class, or the function that returns an instance of one, of the given name.

    Args:
        target: dotted name.
        where: dotted key of the configuration that holds the name, for messages.

    Raises:
        UserError: the name is not allowed, and then nothing has been imported; or there is no such class.
    """
    trusted = require_allowed_name(target, where)
    module, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        reason = first_line(error)
        raise UserError(f"{where}={target}: there is no such class ({reason}){_hint(target)}") from error
    defined_in = getattr(found, "__module__", None) or ""
    allowed = _is_within(defined_in, trusted) or (_is_within(defined_in, ALLOWED) and _is_buildable(found))
    if not callable(found) or not allowed or get_object(target) is not found:  # get_object: what Hydra will build
        raise UserError(_refusal(target, where))
    return found


def require_allowed_name(target: Any, where: str) -> tuple[str, ...]:
    """Check that a name lies in an allowed package, without importing anything.

    Args:
        target: dotted name.
        where: dotted key of the configuration that holds the name, for messages.

    Returns:
        The packages that the user trusts in addition, from the environment variable OAKLEAF_TRUST.

    Raises:
        UserError: the name is not allowed.
    """
    trusted = tuple(filter(None, re.split(r"[,\s]+", os.environ.get(TRUST, ""))))
    module = str(target).rpartition(".")[0]
    is_name = isinstance(target, str) and NAME.fullmatch(target)
    if not is_name or not _is_within(module, ALLOWED + trusted, parents=True):
        raise UserError(_refusal(target, where))
    return trusted


def _is_within(module: str, packages: tuple[str, ...], parents: bool = False) -> bool:
    """Tell whether a module is one of the packages or below one.

    With `parents`, a package above is allowed too, as it re-exports what is defined below it:
    `lightning.pytorch.Trainer` is defined in `lightning.pytorch.trainer`.
    """
    inside = any(f"{module}.".startswith(f"{package}.") for package in packages)
    return inside or (parents and bool(module) and any(package.startswith(f"{module}.") for package in packages))


def _is_buildable(found: Any) -> bool:
    """Tell whether an object of an allowed module may be called.

    A class may; of torch's only a network or an optimizer. A function may if it is Oakleaf's own and its return
    annotation is such a class.
    """
    if inspect.isfunction(found):
        returned = get_type_hints(found).get("return")
        return found.__module__.startswith("oakleaf.") and inspect.isclass(returned) and _is_buildable(returned)
    if not inspect.isclass(found) or issubclass(found, (BaseException, str, tuple)):
        return False
    if not found.__module__.startswith("torch"):
        return True
    from torch import nn, optim

    return issubclass(found, (nn.Module, optim.Optimizer))


def _refusal(target: Any, where: str) -> str:
    return (
        f"{where}={target}: a configuration may build networks, losses, data and similar classes of "
        f"{', '.join(ALLOWED_MODULES)} only; to allow a package that you trust, set {TRUST}=PACKAGE in the environment"
        f"{_hint(target)}"
    )


def _hint(target: Any) -> str:
    """Return what to add to the message for a name of Oakleaf that is not found: it can be one of version 0.1."""
    if not str(target).startswith("oakleaf."):
        return ""
    return "; a configuration of Oakleaf 0.1 can be read by version 0.1.0 only, CHANGELOG.md has the new names"


def require_allowed(node: Any) -> None:
    """Check every class that a configuration names, and import it.

    Args:
        node: plain, resolved containers.

    Raises:
        UserError: a class is not allowed, or an interpolation is left, which would be resolved after the check.
    """
    for where, key, value in _walk(node):
        if isinstance(value, str) and "${" in value:
            raise UserError(f"{where}={value}: an interpolation is left where a value is expected")
        if key == "_target_":
            locate(value, where)


def scan_untrusted(recipe: Any, of: str) -> None:
    """Check a stored configuration from an untrusted source before any of it is resolved or built.

    Args:
        recipe: the configuration as it was stored, with its interpolations.
        of: the file that holds it, for messages.

    Raises:
        UserError: a value that is not text, a number or a container; a class that is not allowed; a resolver that
            reads the environment or the disk; or a configuration that is too deep, too large, or refers to itself.
    """
    values = {}
    for where, key, value in _walk(recipe, of):
        unexpected = [type(item).__name__ for item in (key, value) if not isinstance(item, PLAIN_TYPES)]
        if unexpected:
            raise UserError(
                f"{of} is refused: its configuration holds a {unexpected[0]} at {where}, where only text and numbers "
                "are allowed"
            )
        if not is_safe_interpolation(value):
            raise UserError(
                f"{of} is refused: its configuration would read this machine's environment or files, by {where}={value}"
            )
        if key == "_target_":
            try:
                require_allowed_name(value, where)
            except UserError as error:
                raise UserError(f"{of} is refused: {error}") from error
        values[where] = value
    if _resolved_length("", values, {}, 0) > MAX_CHARACTERS:
        raise UserError(
            f"{of} is refused: its configuration refers to itself, or becomes too large when it is resolved"
        )


def is_safe_interpolation(value: Any) -> bool:
    """Tell whether resolving a value only computes, and reads neither the environment nor the disk."""
    return not isinstance(value, str) or all(SAFE_INTERPOLATION.match(rest) for rest in value.split("${")[1:])


def _resolved_length(where: str, values: Mapping[str, Any], known: dict[str, int], depth: int) -> int:
    """Return a value's length in characters after resolving; more than the limit if the value refers to itself."""
    if depth > MAX_DEPTH:
        return MAX_CHARACTERS + 1
    if where not in known:
        value, known[where] = values.get(where), MAX_CHARACTERS + 1
        parts = [_child_key(where, key) for key in value] if isinstance(value, dict) else []
        parts += [_child_key(where, i) for i in range(len(value))] if isinstance(value, list) else []
        parts += [_absolute_key(where, *found) for found in REFERENCE.findall(value)] if isinstance(value, str) else []
        known[where] = (0 if parts and not isinstance(value, str) else len(str(value))) + sum(
            _resolved_length(part, values, known, depth + 1) for part in parts
        )
    return known[where]


def _absolute_key(where: str, dots: str, key: str) -> str:
    """Return the key that a reference at `where` means; with n leading dots it starts n levels above."""
    return ".".join([*where.split(".")[: -len(dots)], key]) if dots else key


def _child_key(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def _walk(node: Any, of: str = "configuration") -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted key, own key, value) of a node and of everything below it.

    Not by recursion, since a pickled list can contain itself.

    Raises:
        UserError: the node is too deep or has too many values.
    """
    waiting: list[tuple[str, Any, Any, int]] = [("", None, node, 0)]
    count = 0
    while waiting:
        where, key, value, depth = waiting.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_VALUES:
            raise UserError(
                f"{of}: a configuration of more than {MAX_DEPTH} levels or {MAX_VALUES:,} values is refused"
            )
        yield where, key, value
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        waiting += [(_child_key(where, name), name, child, depth + 1) for name, child in children]

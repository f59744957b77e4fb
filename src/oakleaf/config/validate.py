"""Holding a configuration against the signatures of the classes that it names, before any of them is built."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic_core import SchemaError

from oakleaf.config.allowlist import locate
from oakleaf.config.suggest import trainer_alternative, unknown_key_message
from oakleaf.config.types import NonNegativeInt, PositiveInt
from oakleaf.errors import UserError

Fixed = Mapping[str, Mapping[str, Any]]  # for nodes that are no class's arguments: their keys, and what may stand there

RECIPE: Fixed = {
    "": dict.fromkeys(("data", "loss", "optim", "model", "nonfinite", "trainer", "callbacks", "logger", "sweep"), Any)
    | {
        "seed": int,
        "max_images": PositiveInt | None,
        "log_every": PositiveInt,
        "resume": str | None,
        "folder": str | None,
    }
    | {"compile": bool | Literal["auto", "cuda_graphs"], "profile": bool},
    "nonfinite": {"max_consecutive": PositiveInt, "max_rollbacks": NonNegativeInt},
    "model": {"name": str, "game": Any},
    "sweep": {
        "metric": str | list[str],
        "measure": str | None,
        "extractor": str,
        "fake": PositiveInt,
        "status": str | None,
    },
}
UNTYPED = (PydanticSchemaGenerationError, PydanticUserError, SchemaError, TypeError)

PLAIN = (Annotated, Literal, str, int, float, bool, type(None))
LEAVES = (*PLAIN, Any, list, tuple, Sequence, Path)  # what plain values, and lists of them, may be

LARGE = 2**63  # what libraries count with ends there


def validate(node: Any, path: str = "", fixed: Fixed = RECIPE) -> None:
    """Walk through plain containers and make each value what its annotation says: `batch_size: 1e2` becomes 100. A
    null among things with names (a penalty, a callback) takes that thing out.

    Raises:
        UserError: an unknown key, with the nearest known one; a value of the wrong type or out of its range.
    """
    if isinstance(node, list):
        for i, item in enumerate(node):
            validate(item, f"{path}[{i}]", fixed)
    if not isinstance(node, dict):
        return
    known = _annotations(node, path) if "_target_" in node else fixed.get(path)
    things = known is None and "_target_" not in node
    for key, value in list(node.items()):
        here = f"{path}.{key}" if path else str(key)
        if key in ("_partial_", "_recursive_") and not isinstance(value, bool):
            raise UserError(f"{here}={value}: true or false is expected there")
        if str(key).startswith("_"):
            continue
        if refused := trainer_alternative(here):
            raise UserError(refused)
        if known is not None and key not in known:
            raise UserError(unknown_key_message(here, known))
        if here in fixed and not isinstance(value, Mapping):
            own = ", ".join(f"{here}.{name}" for name in fixed[here])
            raise UserError(f"{here}={value}: it has values of its own: {own}")
        if known is not None and not isinstance(value, Mapping):  # what a node becomes, its class knows
            node[key] = _valid(here, value, known[key])
        elif known is not None and all(kind in PLAIN for kind in _kinds(known[key])):
            raise UserError(f"{here}={value}: one plain value is expected there")
        elif things and value is None:
            del node[key]
        elif things and not isinstance(value, Mapping):
            raise UserError(f"{here}={value}: a thing with a _target_ is expected there, or null")
        validate(value, here, fixed)


def _annotations(node: Mapping[str, Any], path: str) -> dict[str, Any] | None:
    """The parameters of the class that a node names; None if it takes anything."""
    target = locate(node["_target_"], f"{path}._target_")
    parameters = inspect.signature(target).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return None
    return {name: _or_none(p) for name, p in parameters.items()}


def _or_none(parameter: inspect.Parameter) -> Any:
    annotation = Any if parameter.annotation is inspect.Parameter.empty else parameter.annotation
    return annotation | None if parameter.default is None and annotation is not Any else annotation


def _valid(path: str, value: Any, annotation: Any) -> Any:
    """The value as its annotation has it."""
    if isinstance(value, int) and abs(value) >= LARGE:
        raise UserError(f"{path}={str(value)[:9]}...: no number here is so large")
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except UNTYPED:  # an annotation that says nothing about plain values
        if value is None and type(None) not in get_args(annotation):
            raise UserError(f"{path}=null: something is needed there") from None
        if isinstance(value, (str, int, float, list)) and not any(kind in LEAVES for kind in _kinds(annotation)):
            raise UserError(f"{path}={value}: a thing with a _target_ is expected there, or several by name") from None
        return value
    try:
        valid = adapter.validate_python(value)
    except ValidationError as error:
        reasons = dict.fromkeys(e["msg"].removeprefix("Input ").replace("'", "") for e in error.errors())
        raise UserError(f"{path}={value}: {' or '.join(reasons)}") from error
    return valid if isinstance(valid, (bool, int, float, str)) else value


def _kinds(annotation: Any) -> list[Any]:
    """What an annotation allows, without what it is made of."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return [kind for one in get_args(annotation) for kind in _kinds(one)]
    return [origin or annotation]

"""Validation of a configuration against the signatures of the classes that it names, before any of them is built."""

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

Fixed = Mapping[str, Mapping[str, Any]]  # by dotted key of a mapping without a _target_: annotations of its keys

TRAIN_KEYS: Fixed = {  # the mappings of conf/train.yaml that are not the arguments of a class
    "": dict.fromkeys(("data", "loss", "optim", "model", "nonfinite", "trainer", "callbacks", "logger", "sweep"), Any)
    | dict.fromkeys(("augment", "module", "schedules", "init"), Any)
    | {
        "seed": int,
        "max_images": PositiveInt | None,
        "log_every": PositiveInt,
        "threads": PositiveInt | None,
        "resume": str | None,
        "folder": str | None,
    }
    | {"compile": bool | Literal["auto", "cuda_graphs"], "profile": bool},
    "nonfinite": {"max_consecutive": PositiveInt, "max_rollbacks": NonNegativeInt},
    "init": {"checkpoint": str | None, "players": list[str] | None, "ema": bool},
    "model": {"name": str, "game": Any, "critics": Any, "frozen": Any},
    "sweep": {
        "metric": str | list[str],
        "measure": str | None,
        "extractor": str,
        "fake": PositiveInt,
        "status": str | None,
    },
}
UNSUPPORTED = (PydanticSchemaGenerationError, PydanticUserError, SchemaError, TypeError)  # annotations of other objects

PLAIN = (Annotated, Literal, str, int, float, bool, type(None))
PLAIN_OR_CONTAINER = (*PLAIN, Any, list, tuple, Sequence, Path)

INTEGER_LIMIT = 2**63  # other libraries count in 64-bit integers


def validate(node: Any, path: str = "", fixed: Fixed = TRAIN_KEYS) -> None:
    """Convert each value of a configuration to the type of its annotation, in place: `batch_size: 1e2` becomes 100.

    A mapping with a `_target_` is compared with the signature of that class, one listed in `fixed` with the annotations
    given there. Any other mapping holds objects by name (penalties, callbacks): an entry that is null is removed.

    Args:
        node: plain, resolved containers (dict, list, values).
        path: dotted key of the node, for messages and for `fixed`.
        fixed: annotations of the mappings that have no `_target_`, by dotted key.

    Raises:
        UserError: an unknown key, or a value of the wrong type or out of its range.
    """
    if isinstance(node, list):
        for i, item in enumerate(node):
            validate(item, f"{path}[{i}]", fixed)
    if not isinstance(node, dict):
        return
    annotations = _annotations(node, path) if "_target_" in node else fixed.get(path)
    holds_objects = annotations is None and "_target_" not in node
    for key, value in list(node.items()):
        key_path = f"{path}.{key}" if path else str(key)
        if key in ("_partial_", "_recursive_") and not isinstance(value, bool):
            raise UserError(f"{key_path}={value}: should be true or false")
        if str(key).startswith("_"):
            continue
        if message := trainer_alternative(key_path, of_a_gan=False):
            raise UserError(message)
        if annotations is not None and key not in annotations:
            raise UserError(unknown_key_message(key_path, annotations))
        if key_path in fixed and not isinstance(value, Mapping):
            own = ", ".join(f"{key_path}.{name}" for name in fixed[key_path])
            raise UserError(f"{key_path}={value}: it is a mapping; set its keys: {own}")
        if annotations is not None and _is_plain_mapping(value, annotations[key]):
            _convert(key_path, value, annotations[key])
            continue
        if annotations is not None and not isinstance(value, Mapping):  # a mapping is checked by what it builds
            node[key] = _convert(key_path, value, annotations[key])
        elif annotations is not None and all(kind in PLAIN for kind in _alternatives(annotations[key])):
            raise UserError(f"{key_path}={value}: should be a single value, not a mapping")
        elif holds_objects and value is None:
            del node[key]
        elif holds_objects and not isinstance(value, Mapping):
            raise UserError(f"{key_path}={value}: should be a mapping with a _target_, or null to leave it out")
        validate(value, key_path, fixed)


def _is_plain_mapping(value: Any, annotation: Any) -> bool:
    """Tell whether a mapping is a value of its own, `columns: {image: photo}`, and holds no objects."""
    return isinstance(value, Mapping) and "_target_" not in value and dict in _alternatives(annotation)


def _annotations(node: Mapping[str, Any], path: str) -> dict[str, Any] | None:
    """Return the annotations of the class that a node names; None if it accepts any keyword."""
    target = locate(node["_target_"], f"{path}._target_")
    parameters = inspect.signature(target).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return None
    return {name: _annotation(p) for name, p in parameters.items()}


def _annotation(parameter: inspect.Parameter) -> Any:
    """Return a parameter's annotation, which allows None if that is the default."""
    annotation = Any if parameter.annotation is inspect.Parameter.empty else parameter.annotation
    return annotation | None if parameter.default is None and annotation is not Any else annotation


def _convert(path: str, value: Any, annotation: Any) -> Any:
    """Return the value converted to its annotation; other objects than plain values are returned as they are."""
    if isinstance(value, int) and abs(value) >= INTEGER_LIMIT:
        raise UserError(f"{path}={str(value)[:9]}...: the number is too large")
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except UNSUPPORTED:
        if value is None and type(None) not in get_args(annotation):
            raise UserError(f"{path}=null: a value is required") from None
        plain_allowed = any(kind in PLAIN_OR_CONTAINER for kind in _alternatives(annotation))
        if isinstance(value, (str, int, float, list)) and not plain_allowed:
            raise UserError(f"{path}={value}: should be a mapping with a _target_, or several by name") from None
        return value
    try:
        converted = adapter.validate_python(value)
    except ValidationError as error:
        reasons = dict.fromkeys(e["msg"].removeprefix("Input ").replace("'", "") for e in error.errors())
        raise UserError(f"{path}={'null' if value is None else value}: {' or '.join(reasons)}") from error
    return converted if isinstance(converted, (bool, int, float, str)) else value


def _alternatives(annotation: Any) -> list[Any]:
    """Return the types that an annotation allows, without their parameters: `list[int] | None` -> [list, NoneType]."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return [kind for member in get_args(annotation) for kind in _alternatives(member)]
    return [origin or annotation]

"""Replacing a class on the command line, together with its options.

`model.game.generator={_target_: mine.G, width: 8}` and `model.game.generator._target_=mine.G` name another class for a
node that has options already. Hydra merges: the options of the old class stay. Those that the new class does not know
are removed here, unless the command sets them. So what both know (`latent`, `channels`, `size`) keeps its value, and a
misspelt option of the command is still answered. For a user's own data set, given by `data._target_=`, nothing of the
old node is kept: its size and channels were those of other images.
"""

import inspect
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from oakleaf.builder.data_node import makes_images, with_adapter
from oakleaf.config.allowlist import locate
from oakleaf.errors import UserError

TARGET = "_target_"


def drop_replaced_options(config: DictConfig, overrides: Sequence[str]) -> None:
    """Remove the options of classes that these overrides replace, in place.

    Args:
        config: composed with the overrides.
        overrides: as on the command line.

    Raises:
        UserError: a class is not allowed, or does not exist.
    """
    if not any(TARGET in override for override in overrides):
        return
    given: dict[str, Any] = {}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if not override.is_delete():
            given |= _flat(override.key_or_group, override.value())
    for key in [key for key in given if key.endswith(f".{TARGET}")]:
        path = key.removesuffix(f".{TARGET}")
        node = OmegaConf.select(config, path)
        if isinstance(node, DictConfig) and isinstance(node.get(TARGET), str):
            _drop(config, path, node, given)


def _drop(config: DictConfig, path: str, node: DictConfig, given: dict[str, Any]) -> None:
    target = node[TARGET]
    own_data = path == "data" and not makes_images(target)
    known = [] if own_data else _known(target, f"{path}.{TARGET}")
    if known is None:
        return
    names = [str(name) for name in node if not str(name).startswith("_")]
    kept = {name for name in names if any(f"{key}.".startswith(f"{path}.{name}.") for key in given)}
    with open_dict(node):
        for name in names:
            if name not in kept and name not in known:
                del node[name]
    if own_data:
        with open_dict(config):
            config.data = with_adapter(config).data


def _known(target: str, where: str) -> list[str] | None:
    """The parameters of a class; None if it takes any, or may not be built, which is said when it would be built."""
    try:
        parameters = inspect.signature(locate(target, where)).parameters
    except UserError:
        return None
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    return None if takes_any else list(parameters)


def _flat(key: str, value: Any) -> dict[str, Any]:
    """The values of an override by dotted key."""
    if not isinstance(value, dict):
        return {key: value}
    return {inner: one for name, below in value.items() for inner, one in _flat(f"{key}.{name}", below).items()}

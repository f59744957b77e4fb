"""The answer to a key that does not exist."""

import sys
from collections.abc import Iterator
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from oakleaf.config.common_names import meant_message
from oakleaf.config.suggest import trainer_alternative, unknown_key_message


def unknown_key(key: str, config: str) -> str:
    """Return the sentence for a key that the configuration does not have.

    Args:
        key: the key of the override.
        config: name of the command's configuration; it is composed with the groups of the command line.
    """
    from oakleaf.builder.compose import compose_config

    if alternative := trainer_alternative(key):
        return alternative
    node: Any
    try:
        node = compose_config(config, _groups_on_command_line())
    except HydraException:  # a group of another command, or groups that do not fit together
        node = compose_config(config)
    known = [key for key in _all_keys(node) if not key.startswith("hydra.")]
    parts = key.split("@")[0].split(".")
    for depth, part in enumerate(parts):  # noqa: B007, how deep the key holds
        if not isinstance(node, DictConfig) or part not in node:
            break
        node = OmegaConf.select(node, part)
    else:
        return f"{key}: this option exists but cannot be changed in this way"
    if not isinstance(node, DictConfig):
        return f"{key}: {'.'.join(parts[:depth])} is a value and has no options below it"
    unknown = ".".join(parts[: depth + 1])
    return meant_message(key, known) or unknown_key_message(unknown, node)


def _all_keys(node: Any, path: str = "") -> Iterator[str]:
    """All dotted keys of a configuration; interpolations are not resolved."""
    content = OmegaConf.to_container(node, resolve=False)

    def keys(below: Any, place: str) -> Iterator[str]:
        for name, value in below.items() if isinstance(below, dict) else ():
            key = f"{place}.{name}" if place else str(name)
            yield key
            yield from keys(value, key)

    return keys(content, path)


def _groups_on_command_line() -> list[str]:
    from oakleaf.config.paths import conf_dir

    def exists(argument: str) -> bool:
        group, _, choice = argument.partition("=")
        return bool(choice) and (conf_dir() / group / f"{choice}.yaml").is_file()

    return [argument for argument in sys.argv[1:] if exists(argument)]

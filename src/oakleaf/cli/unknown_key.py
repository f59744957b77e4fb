"""Which key was meant."""

import sys
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from oakleaf.config.suggest import trainer_alternative, unknown_key_message


def unknown_key(key: str, config: str) -> str:
    """The sentence for a key that the composed configuration does not have, after the command line's other groups."""
    from oakleaf.cli.compose import compose_config

    if ours := trainer_alternative(key):
        return ours
    node: Any
    try:
        node = compose_config(config, _groups_on_command_line())
    except HydraException:  # one of them is another command's, or does not go with the others
        node = compose_config(config)
    parts = key.split("@")[0].split(".")
    for depth, part in enumerate(parts):  # noqa: B007, how deep the key holds
        if not isinstance(node, DictConfig) or part not in node:
            break
        node = OmegaConf.select(node, part)
    else:
        return f"{key}: this option is there, but not to be changed in that way"
    if not isinstance(node, DictConfig):
        return f"{key}: {'.'.join(parts[:depth])} is a value and has no options below it"
    return unknown_key_message(".".join(parts[: depth + 1]), node)


def _groups_on_command_line() -> list[str]:
    from oakleaf.config.paths import conf_dir

    def exists(argument: str) -> bool:
        group, _, choice = argument.partition("=")
        return bool(choice) and (conf_dir() / group / f"{choice}.yaml").is_file()

    return [argument for argument in sys.argv[1:] if exists(argument)]

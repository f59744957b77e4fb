"""Compose a configuration outside of Hydra's own command: in Python, or a second one inside a command."""

from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from oakleaf import compat
from oakleaf.builder.resolvers import register
from oakleaf.config.overrides import for_hydra, name_classes
from oakleaf.config.paths import conf_dir


def compose_config(name: str, overrides: Sequence[str] = (), with_hydra: bool = False) -> DictConfig:
    """Compose what a command line would compose.

    Args:
        name: name of the YAML file in `conf/`, without suffix.
        overrides: as on the command line.
        with_hydra: whether to keep the node `hydra`, which knows the choices of all groups.

    Raises:
        HydraException: an override does not fit.
    """
    register()
    with compat.second_hydra(), initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(name, overrides=for_hydra(overrides), return_hydra_config=with_hydra)
    if name_classes(overrides):
        from oakleaf.builder.replace import drop_replaced_options  # imports torch

        drop_replaced_options(config, overrides)
    return config

"""A second configuration, beside the one that the command composed for itself."""

from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from oakleaf.builder.resolvers import register
from oakleaf.config.paths import conf_dir


def compose_config(config: str, overrides: Sequence[str] = ()) -> DictConfig:
    """What a command line would compose: `conf/`'s file of this name, with the overrides.

    Raises:
        HydraException: an override does not fit.
    """
    register()
    held = GlobalHydra.instance().hydra  # Hydra knows one at a time, and the command's own is asked again afterwards
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return compose(config, overrides=list(overrides))
    finally:
        if held:
            GlobalHydra.instance().initialize(held)

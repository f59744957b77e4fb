"""From a composed configuration to a module and its data."""

from typing import Any, NamedTuple

from lightning.pytorch import LightningDataModule
from omegaconf import DictConfig, OmegaConf

from oakleaf.builder.data_node import with_adapter
from oakleaf.builder.frozen import with_architectures
from oakleaf.builder.module import is_gan
from oakleaf.builder.recipe import (
    Recipe,
    build_data,
    build_module,
    check_condition,
    check_groups,
    data_facts,
    stored_recipe,
    validated_recipe,
)
from oakleaf.builder.resolvers import register
from oakleaf.runtime.run_dir import run_dir


class Build(NamedTuple):
    """What `build` returns: the module, the data module, and the resolved recipe.

    The module is a `GAN`, unless `module._target_` names another LightningModule.
    """

    module: Any
    data: LightningDataModule
    recipe: Recipe


def build(config: DictConfig) -> Build:
    """Build the module and its data from a composed configuration. The configuration is not changed.

    Where its `folder` is null, the recipe names the folder that a command would write into.

    Raises:
        UserError: a value that makes no sense, or data that are not there.
    """
    register()
    check_groups(config)
    if config.get("folder") is None:  # as the commands choose it
        folder = run_dir(None, None, f"{config.model.get('name')}-{config.data.get('name')}", [])
        config = OmegaConf.merge(config, {"folder": folder})  # type: ignore[assignment]
    config = with_adapter(config)
    data = build_data(config)
    config = OmegaConf.merge(config, {"data": data_facts(data)})  # type: ignore[assignment]
    config = with_architectures(config)
    recipe = validated_recipe(config, data)
    module = build_module(recipe)
    module.recipe = stored_recipe(config, recipe)
    if is_gan(recipe):
        if not config.get("resume"):
            for network in module.game.frozen.values():
                network.check()
        check_condition(module, data, recipe)
        module.configure_optimizers()  # raises for numbers that an optimizer refuses, before anything begins
    return Build(module, data, recipe)

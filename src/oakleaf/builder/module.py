"""The LightningModule that `module._target_` names: a `GAN`, a subclass, or any other."""

import inspect
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule

from oakleaf.builder.instantiate import instantiate_allowed
from oakleaf.config.allowlist import locate
from oakleaf.errors import UserError
from oakleaf.gan import GAN

DEFAULT = {"_target_": "oakleaf.gan.GAN"}  # of recipes that were stored before there was a choice


def module_class(recipe: Mapping[str, Any]) -> type[LightningModule]:
    """Return the class of a recipe's module.

    Raises:
        UserError: the class is not allowed, or is none of Lightning's modules.
    """
    target = (recipe.get("module") or DEFAULT).get("_target_")
    found = locate(target, "module._target_")
    if not inspect.isclass(found) or not issubclass(found, LightningModule):
        raise UserError(f"module._target_={target}: should be a LightningModule, such as oakleaf.gan.GAN or a subclass")
    return found


def is_gan(recipe: Mapping[str, Any]) -> bool:
    """Whether a recipe's module is a `GAN`."""
    return issubclass(module_class(recipe), GAN)


def missing_parts(recipe: Mapping[str, Any]) -> set[str]:
    """Return the names of the constructor's parameters that the recipe does not set.

    A GAN's `**kwargs` are passed on to `GAN`, so they stand for all of its parameters.
    """
    kind = module_class(recipe)
    parameters = inspect.signature(kind).parameters.values()
    names = {parameter.name for parameter in parameters if parameter.kind is not inspect.Parameter.VAR_KEYWORD}
    if issubclass(kind, GAN) and len(names) < len(parameters):
        names |= inspect.signature(GAN).parameters.keys()
    return names - (recipe.get("module") or DEFAULT).keys()


def instantiate_module(recipe: Mapping[str, Any], parts: Mapping[str, Any]) -> LightningModule:
    """Build a recipe's module from the parts that its constructor names, and its own arguments.

    Raises:
        UserError: an argument is missing or unknown.
    """
    missing = {name: part for name, part in parts.items() if name in missing_parts(recipe)}
    try:
        module: LightningModule = instantiate_allowed(dict(recipe.get("module") or DEFAULT), _partial_=True)(**missing)
    except TypeError as error:
        if "__init__()" not in str(error):
            raise
        raise UserError(f"module: {str(error).split('__init__()')[1].strip()}") from error  # missing or unexpected
    return module

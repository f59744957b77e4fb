"""From a checkpoint back to a module."""

import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from hydra.errors import InstantiationException
from lightning.pytorch import LightningModule
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from oakleaf.builder.module import DEFAULT
from oakleaf.builder.recipe import Recipe, build_module, plain, refers_to
from oakleaf.builder.resolvers import register
from oakleaf.config.validate import validate
from oakleaf.errors import UserError, first_line, one_line
from oakleaf.gan import GAN
from oakleaf.runtime.checkpoint_io import read_checkpoint
from oakleaf.runtime.clock import Clock
from oakleaf.runtime.memory import build_on_meta

PARTS = ("data", "loss", "optim", "model")
NUMBERS = ("seed", "log_every", "max_images")
OPTIONAL = ("augment", "module", "schedules")


def load(checkpoint: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None) -> GAN:
    """Load the GAN of a checkpoint, in eval mode on the CPU. The data are not needed.

    Args:
        checkpoint: a checkpoint file or a run's folder.
        overrides: values by dotted key that replace those of the stored recipe.

    Raises:
        UserError: no such file, not a checkpoint of Oakleaf's, or of a module that is no GAN.
    """
    return gan_from_checkpoint(read_checkpoint(checkpoint), overrides)


def gan_from_checkpoint(content: dict[str, Any], overrides: Mapping[str, Any] | None = None) -> GAN:
    """Build the GAN of a checkpoint's content and load its weights; in eval mode.

    Raises:
        UserError: the module is no GAN, the recipe cannot be built, or the weights do not fit it.
    """
    return require_gan(module_from_checkpoint(content, overrides))


def require_gan(module: LightningModule) -> GAN:
    """Return a module that is a GAN.

    Raises:
        UserError: it is none.
    """
    if not isinstance(module, GAN):
        name = f"{type(module).__module__}.{type(module).__name__}"
        raise UserError(
            f"the run's module is {name}, and only an oakleaf.gan.GAN can be sampled, evaluated or exported"
        )
    return module


def module_from_checkpoint(content: dict[str, Any], overrides: Mapping[str, Any] | None = None) -> LightningModule:
    """Build the module of a checkpoint's content and load its weights; in eval mode.

    Raises:
        UserError: the recipe cannot be built, or the weights do not fit it.
    """
    recipe = content["hyper_parameters"]
    module = build_from_stored(recipe, overrides, lambda shapes: _load_state_dict(shapes, content))
    load_weights(module, content)
    module.recipe = recipe  # type: ignore[assignment]
    return module.eval()


def build_from_stored(
    stored: Recipe, overrides: Mapping[str, Any] | None = None, check: Callable[[Any], None] | None = None
) -> Any:
    """Build the module of a stored recipe, with new weights.

    Args:
        stored: the recipe of a checkpoint.
        overrides: values by dotted key.
        check: called with the module on torch's meta device, before any memory is taken.

    Raises:
        UserError: the recipe lacks a part or has a value that makes no sense.
    """
    recipe = resolve_recipe(stored, overrides)
    del recipe["data"]  # networks have its size and channels already, and its classes need not be importable
    validate(recipe)
    shapes = build_on_meta(lambda: build_module(recipe))
    if shapes is not None and check is not None:
        check(shapes)
    try:
        return build_module(recipe)
    except (TypeError, ValueError, AttributeError, LookupError, RuntimeError, InstantiationException) as error:
        reason = one_line(error)
        raise UserError(f"the stored recipe can't be built ({reason})") from error


def resolve_recipe(stored: Recipe, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Resolve the parts of a stored recipe that make module and data.

    Raises:
        UserError: a part is missing, or an interpolation fails.
    """
    register()
    needed = (*PARTS, *NUMBERS)
    if missing := [key for key in needed if key not in stored] + [key for key in PARTS if not stored.get(key)]:
        raise UserError(f"the stored recipe has no {missing[0]}")
    try:
        config = OmegaConf.create(stored)
        for key, value in (overrides or {}).items():
            OmegaConf.update(config, key, value)
        optional = [key for key in OPTIONAL if key in stored]
        return {"module": DEFAULT} | plain(OmegaConf.masked_copy(config, [*needed, *optional]))
    except OmegaConfBaseException as error:
        raise UserError(f"the stored recipe does not hold together ({first_line(error)})") from error


def load_weights(module: LightningModule, content: dict[str, Any]) -> None:
    """Load a checkpoint's weights and clock into a module.

    Raises:
        UserError: the weights or the classes do not fit.
    """
    module.on_load_checkpoint(content)
    if not isinstance(module, GAN):
        Clock.restore(module, content)
    _load_state_dict(module, content)


def _load_state_dict(module: Any, content: dict[str, Any]) -> None:
    recipe, condition = content["hyper_parameters"], module.game.condition if isinstance(module, GAN) else None
    stored, here = recipe["data"].get("classes"), condition.classes if condition else 0
    if not here and refers_to(recipe["model"], "data.classes"):
        here = module.recipe.get("data", {}).get("classes")  # a network has an output or an input for each class
    if here and stored is not None and stored != here:
        kind = "words" if condition and condition.key == "caption" else "classes"
        raise UserError(f"the checkpoint was trained with {stored} {kind}, and this data has {here}")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*to a meta parameter")  # on the meta device only shapes count
            module.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        reason = one_line(error)
        raise UserError(f"the checkpoint's weights do not fit the networks of its recipe ({reason} ...)") from error


def changed_data(content: dict[str, Any], data: Any) -> str:
    """Return a sentence if the data are not those that the checkpoint was trained on; else an empty text."""
    trained_on = content["trained_on"]["data"]
    if not trained_on or data.hash == trained_on:
        return ""
    return (
        f"data={data.name}: these are not the pictures of the training: some were added, removed or changed, or they "
        "are cropped or resized in another way"
    )


def check_classes(content: dict[str, Any], data: Any) -> None:
    """Check that the data number their classes as the checkpoint's networks learned them.

    Raises:
        UserError: other classes, or the same in another order.
    """
    if not refers_to(content["hyper_parameters"]["model"], "data.classes"):
        return
    known, here = content["trained_on"]["classes"], list(data.classes)
    count = len(known) if known else content["hyper_parameters"]["data"].get("classes")
    kind = "words" if "caption" in data.keys else "attributes" if "attributes" in data.keys else "classes"
    if count is not None and count != len(here):
        raise UserError(f"the checkpoint was trained with {count} {kind}, and this data has {len(here) or 'none'}")
    if known and known != here:
        number, one, other = next((i, a, b) for i, (a, b) in enumerate(zip(known, here)) if a != b)
        raise UserError(
            f"of the {kind} that the checkpoint was trained with, number {number} is `{one}`, and here it is `{other}`"
        )

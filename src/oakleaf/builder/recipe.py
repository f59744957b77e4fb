"""The parts of building: data, their facts, the validated recipe, the module, and what is stored.

A recipe is a composed, resolved configuration in plain containers: everything that makes a run. Checkpoints store it
unresolved (`stored_recipe`).
"""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import seed_everything
from omegaconf import DictConfig, OmegaConf

from oakleaf.builder.callbacks import check_callbacks
from oakleaf.builder.instantiate import instantiate_allowed
from oakleaf.builder.module import instantiate_module, is_gan, missing_parts
from oakleaf.config.allowlist import is_safe_interpolation
from oakleaf.config.paths import conf_dir
from oakleaf.config.suggest import trainer_alternative
from oakleaf.config.validate import validate
from oakleaf.errors import UserError
from oakleaf.gan import GAN
from oakleaf.runtime.clock import Clock
from oakleaf.runtime.memory import build_on_meta
from oakleaf.runtime.nonfinite import NonFiniteGuard
from oakleaf.runtime.run_dir import redact_home
from oakleaf.runtime.seeds import derive_seed

Recipe = dict[str, Any]


def check_groups(config: DictConfig) -> None:
    """Check that the configuration has the groups that every run needs.

    Raises:
        UserError: a group is missing.
    """
    if missing := [key for key in ("data", "loss", "optim", "model", "trainer") if config.get(key) is None]:
        raise UserError(f"{missing[0]}= is missing; every run needs it")
    if is_gan(plain(config, resolve=False)) and not isinstance(config.model.get("game"), DictConfig):
        raise UserError("model.game= is missing; every run needs it")


def build_data(config: DictConfig) -> Any:
    """Build the data module.

    Raises:
        UserError: a value is wrong, or the data are not there.
    """
    validate({key: config[key] for key in ("seed", "max_images", "log_every", "compile", "threads", "profile")})
    arguments = plain(config.data)
    validate(arguments, "data")
    seed_everything(derive_seed(config.seed) % 2**32, verbose=False)
    return instantiate_allowed(arguments)


def data_facts(data: Any) -> dict[str, Any]:
    """Return what only the data know and networks need: size, channels, number of classes, channels of inputs.

    Networks read these values by interpolation (`${data.channels}`). The range of values is among them, if it is not
    that of bytes: samples are written in it.
    """
    height, width = data.size
    given = {"range": list(data.value_range)} if data.value_range else {}
    return {
        **given,
        "size": height if height == width else [height, width],
        "channels": data.channels,
        "classes": len(data.classes),
        "input_channels": data.input_channels,
    }


def validated_recipe(config: DictConfig, data: Any) -> Recipe:
    """Resolve the configuration and check every value against the signatures of the classes that it names.

    Raises:
        UserError: the model needs labels or input images that the data do not have; an unknown key; a value of the
            wrong type or out of range; a network that does not fit into memory.
    """
    model = plain(config.model, resolve=False)
    if not data.classes and refers_to(model, "data.classes"):
        reason = getattr(getattr(data, "source", None), "unlabelled_reason", "")
        raise UserError(
            f"model={config.model.name} needs labels, and data={config.data.name} has none"
            + (f": {reason}" if reason else "")
        )
    if not data.input_channels and refers_to(model, "data.input_channels"):
        raise UserError(
            f"model={config.model.name} maps input images to images, and data={config.data.name} has images alone: "
            "data=paired, data=facades, or data/input=grey, edges, low_resolution or masked"
        )
    recipe = plain(config)
    validate(recipe)
    if is_gan(recipe):
        _check_for_gan(recipe)
    build_on_meta(lambda: build_module(recipe), copies=4)
    return recipe


def _check_for_gan(recipe: Recipe) -> None:
    """Check that no argument of the Trainer and no callback needs Lightning's own optimization of a single loss.

    Raises:
        UserError: there is one.
    """
    for name in recipe["trainer"]:
        if message := trainer_alternative(f"trainer.{name}"):
            raise UserError(message)
    check_callbacks(recipe.get("callbacks") or {})


def build_module(recipe: Recipe) -> Any:
    """Build the module from a resolved recipe, with new weights. Data are not needed.

    Returns:
        A `GAN`, or the module of another class that `module._target_` names, with a `Clock`'s attributes.
    """
    torch.manual_seed(derive_seed(recipe["seed"], "weights"))
    parts = {name: recipe[name] for name in ("seed", "log_every", "max_images")}
    parts["guard"] = NonFiniteGuard(**recipe.get("nonfinite", {}))
    if missing_parts(recipe) & {"game", "players", "ema"}:
        parts |= _build_game(recipe)
    module = instantiate_module(recipe, parts)
    if not is_gan(recipe):
        Clock.attach(module, recipe)
    return module


def _build_game(recipe: Recipe) -> dict[str, Any]:
    """Build the game, its players, their moving averages and the schedules."""
    loss = instantiate_allowed(recipe["loss"])
    optim = instantiate_allowed(recipe["optim"])
    try:
        game = instantiate_allowed(recipe["model"]["game"], _partial_=True)(loss=loss)
    except TypeError as error:
        if "__init__()" not in str(error):
            raise
        raise UserError(f"model.game: {str(error).split('__init__()')[1].strip()}") from error  # missing or unexpected
    model, augment = recipe["model"], recipe.get("augment") or None
    critics, frozen = (instantiate_allowed(model.get(key) or {}) for key in ("critics", "frozen"))
    game.attach(critics, frozen, instantiate_allowed(augment) if augment else None)
    schedules = instantiate_allowed(recipe.get("schedules") or {})
    return {"game": game, "ema": optim.pop("ema", None), "players": optim, "schedules": schedules}


def check_condition(module: GAN, data: Any, recipe: Recipe) -> None:
    """Check that the data have the rows that the module is conditioned on.

    Raises:
        UserError: they do not, or nearly all labels are hidden from a model that is conditioned on labels.
    """
    condition = module.game.condition
    if condition is None:
        return
    model, name = recipe["model"]["name"], recipe["data"]["name"]
    if condition.key not in ("image", *data.keys):
        choices = [key for key in data.keys if (conf_dir() / "model/condition" / f"{key}.yaml").is_file()]
        rows = " and ".join(f"`{key}` (model/condition={key})" for key in choices) or "no rows for a condition"
        hint = f"; {condition.source_hint}" if condition.source_hint else ""
        raise UserError(f"model={model} is conditioned on `{condition.key}`, and data={name} has {rows}{hint}")
    if condition.key == "label" and recipe["data"].get("labelled"):
        raise UserError(
            f"data.labelled={recipe['data']['labelled']}: model={model} is conditioned on each image's label, and "
            "nearly all would be hidden; model=improved learns from few labels"
        )


def stored_recipe(config: DictConfig, recipe: Recipe) -> Recipe:
    """Return what a checkpoint stores: the unresolved configuration, without paths of this machine.

    It is unresolved so that a run that was moved writes where it is now. Interpolations that would read the environment
    or the disk of whoever opens the checkpoint are replaced by their values.
    """
    stored = _without_unsafe_interpolations(plain(config, resolve=False), plain(config))
    return redact_home({**stored, "folder": None, "resume": None})  # type: ignore[no-any-return]


def _without_unsafe_interpolations(node: Any, values: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _without_unsafe_interpolations(below, values[key]) for key, below in node.items()}
    return node if is_safe_interpolation(node) else values


def refers_to(model: Any, key: str) -> bool:
    """Whether an unresolved model refers to a key of the configuration by interpolation."""
    return f"${{{key}}}" in str(model)


def plain(node: Any, resolve: bool = True) -> Recipe:
    """Return a configuration node as plain containers."""
    return OmegaConf.to_container(node, resolve=resolve)  # type: ignore[return-value]

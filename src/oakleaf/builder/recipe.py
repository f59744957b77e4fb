"""From a recipe to a module and its data, and from a checkpoint back. A recipe is the composed
configuration: plain containers, resolved, everything that made a run.
"""

import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch import LightningDataModule, seed_everything
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from oakleaf.builder.resolvers import register
from oakleaf.config.allowlist import is_safe_interpolation, require_allowed
from oakleaf.config.validate import validate
from oakleaf.errors import UserError, first_line, one_line
from oakleaf.gan import GAN
from oakleaf.runtime.checkpoint_io import read_checkpoint
from oakleaf.runtime.memory import build_on_meta
from oakleaf.runtime.nonfinite import NonFiniteGuard
from oakleaf.runtime.run_dir import redact_home
from oakleaf.runtime.seeds import derive_seed

Recipe = dict[str, Any]


def build(config: DictConfig) -> tuple[GAN, LightningDataModule, Recipe]:
    """The module and its data, as the configuration says; and the recipe, in which what the data alone knows (size and
    channels left null) is filled in.

    Raises:
        UserError: a value that makes no sense, or data that are not there.
    """
    register()
    if missing := [key for key in ("data", "loss", "optim", "model", "trainer") if config.get(key) is None]:
        raise UserError(f"{missing[0]}= is missing, and no run goes without")
    if not isinstance(config.model.get("game"), DictConfig):
        raise UserError("model.game= is missing, and no run goes without")
    validate({key: config[key] for key in ("seed", "max_images", "log_every", "compile", "profile")})
    arguments = _plain(config.data)
    validate(arguments, "data")
    seed_everything(derive_seed(config.seed) % 2**32, verbose=False)
    data = instantiate_allowed(arguments)
    height, width = data.size
    config.data.size = height if height == width else [height, width]
    config.data.channels = data.channels
    config.data.classes, config.data.input_channels = len(data.classes), data.input_channels
    model = _plain(config.model, resolve=False)
    if not data.classes and _reads(model, "data.classes"):
        raise UserError(f"model={config.model.name} needs labels, and data={config.data.name} has none")
    if not data.input_channels and _reads(model, "data.input_channels"):
        raise UserError(
            f"model={config.model.name} makes images from pictures, and data={config.data.name} has images alone: "
            "data=paired, data=facades, or data/input=grey, edges, low_resolution or masked"
        )
    recipe = _plain(config)
    validate(recipe)
    build_on_meta(lambda: build_module(recipe), copies=4)
    module = build_module(recipe)
    if (told := module.game.condition) and told.key not in data.keys:
        has = " and ".join(f"`{key}` (model/condition={key})" for key in data.keys)
        raise UserError(
            f"model={config.model.name} is told `{told.key}`, and data={config.data.name} has {has}"
            + (f"; {told.source_hint}" if told.source_hint else "")
        )
    if told and told.key == "label" and config.data.get("labelled"):
        raise UserError(
            f"data.labelled={config.data.labelled}: model={config.model.name} is told each image's label, and would be "
            "told nearly none; model=improved learns from few"
        )
    module.configure_optimizers()  # tells of a number that an optimizer refuses before anything begins
    # unresolved, so that a run that was moved writes where it is now, and no home's path is told
    stored = {**_storable(_plain(config, resolve=False), _plain(config)), "folder": None, "resume": None}
    module.save_hyperparameters(redact_home(stored), logger=False)
    return module, data, recipe


def _storable(node: Any, values: Any) -> Any:
    """Unresolved, but for what would look at the machine that opens it: there the value of this one."""
    if isinstance(node, dict):
        return {key: _storable(below, values[key]) for key, below in node.items()}
    return node if is_safe_interpolation(node) else values


def build_module(recipe: Recipe) -> GAN:
    """The module alone, as new; it needs no data."""
    torch.manual_seed(derive_seed(recipe["seed"], "weights"))
    loss = instantiate_allowed(recipe["loss"])
    optim = instantiate_allowed(recipe["optim"])
    try:
        game = instantiate_allowed(recipe["model"]["game"], _partial_=True)(loss=loss)
    except TypeError as error:
        if "__init__()" not in str(error):
            raise
        raise UserError(f"model.game: {str(error).split('__init__()')[1].strip()}") from error  # missing, or unexpected
    ema = optim.pop("ema", None)
    guard = NonFiniteGuard(**recipe.get("nonfinite", {}))
    return GAN(game, optim, ema, recipe["seed"], recipe["log_every"], recipe["max_images"], guard)


def instantiate_allowed(node: Any, **changes: Any) -> Any:
    """What a node describes, built from plain containers, if every class in it may be built (`oakleaf.config.allowlist`). A
    UserError in a constructor comes out as itself."""
    require_allowed(node)
    try:
        return instantiate(node, **changes, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise


def load(checkpoint: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None) -> GAN:
    """The module of a checkpoint or a run's folder, in eval mode on the CPU. Only the file is needed.

    overrides: values by dotted key that replace the recipe's.

    Raises:
        UserError: no such file, or no checkpoint of ours.
    """
    return module_from_checkpoint(read_checkpoint(checkpoint), overrides)


def module_from_checkpoint(content: dict[str, Any], overrides: Mapping[str, Any] | None = None) -> GAN:
    """The module of a checkpoint's content, in eval mode.

    Raises:
        UserError: its recipe can't be built, or the weights do not fit it.
    """
    module = build_from_stored(content["hyper_parameters"], overrides, lambda shapes: _fill(shapes, content))
    load_weights(module, content)
    return module.eval()


def build_from_stored(
    stored: Recipe, overrides: Mapping[str, Any] | None = None, fits: Callable[[Any], None] | None = None
) -> GAN:
    """The module of a stored recipe, without what it learned. fits: is shown its shapes before it takes any memory.

    Raises:
        UserError: a recipe that lacks a part, or with a value that makes no sense.
    """
    recipe = resolve_recipe(stored, overrides)
    del recipe["data"]  # its size and channels have reached the networks; its classes need not be here
    validate(recipe)
    shapes = build_on_meta(lambda: build_module(recipe))
    if shapes is not None and fits is not None:
        fits(shapes)
    try:
        return build_module(recipe)
    except (TypeError, ValueError, AttributeError, LookupError, RuntimeError, InstantiationException) as error:
        reason = one_line(error)
        raise UserError(f"the stored recipe can't be built ({reason})") from error


def resolve_recipe(stored: Recipe, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """What of a stored recipe makes module and data, as values alone."""
    register()
    needed = ("data", "loss", "optim", "model", "seed", "log_every", "max_images")
    if missing := [key for key in needed if key not in stored] + [key for key in needed[:4] if not stored.get(key)]:
        raise UserError(f"the stored recipe has no {missing[0]}")
    try:
        config = OmegaConf.create(stored)
        for key, value in (overrides or {}).items():
            OmegaConf.update(config, key, value)
        return _plain(OmegaConf.masked_copy(config, list(needed)))
    except OmegaConfBaseException as error:
        raise UserError(f"the stored recipe does not hold together ({first_line(error)})") from error


def load_weights(module: GAN, content: dict[str, Any]) -> None:
    """Put a checkpoint's weights and clock into a module.

    Raises:
        UserError: the weights do not fit, or the labels do not.
    """
    module.on_load_checkpoint(content)
    _fill(module, content)


def _fill(module: Any, content: dict[str, Any]) -> None:
    told, known = module.game.condition, content["hyper_parameters"]["data"].get("classes")
    here = told.classes if told else 0
    if not here and _reads(content["hyper_parameters"]["model"], "data.classes"):
        here = module.hparams.get("data", {}).get("classes")  # an output or an input for each
    if here and known is not None and known != here:
        kind = "words" if told and told.key == "caption" else "classes"
        raise UserError(f"the checkpoint knows {known} {kind}, and this data has {here}")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*to a meta parameter")  # shapes alone are compared there
            module.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        reason = one_line(error)
        raise UserError(f"the checkpoint's weights do not fit the networks of its recipe ({reason} ...)") from error


def check_classes(content: dict[str, Any], data: Any) -> None:
    """That what these data number is what the checkpoint's networks learned by these numbers.

    Raises:
        UserError: other classes, or as many in another order.
    """
    if not _reads(content["hyper_parameters"]["model"], "data.classes"):
        return
    known, here = content["trained_on"]["classes"], list(data.classes)
    count = len(known) if known else content["hyper_parameters"]["data"].get("classes")
    kind = "words" if "caption" in data.keys else "attributes" if "attributes" in data.keys else "classes"
    if count is not None and count != len(here):
        raise UserError(f"the checkpoint knows {count} {kind}, and this data has {len(here) or 'none'}")
    if known and known != here:
        number, one, other = next((i, a, b) for i, (a, b) in enumerate(zip(known, here)) if a != b)
        raise UserError(
            f"of the {kind} that the checkpoint knows, number {number} is `{one}`, and here it is `{other}`"
        )


def _reads(model: Any, key: str) -> bool:
    """Whether an unresolved model leans on what the data say there."""
    return f"${{{key}}}" in str(model)


def _plain(node: DictConfig, resolve: bool = True) -> Recipe:
    return OmegaConf.to_container(node, resolve=resolve)  # type: ignore[return-value]

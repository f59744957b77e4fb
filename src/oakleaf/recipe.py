"""From a recipe to a module, its data and its trainer, and from a checkpoint back. A recipe is the composed
configuration: plain containers, resolved, everything that made a run.
"""

import inspect
import os
from collections.abc import Mapping
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from oakleaf.checkpoint import AtomicIO, read
from oakleaf.errors import Mistake
from oakleaf.gan import GAN
from oakleaf.numbers import Count
from oakleaf.options import instead, unknown
from oakleaf.seeds import stream

Recipe = dict[str, Any]

FIXED: dict[str, dict[str, Any]] = {  # the nodes that are no class's arguments, and what their values may be
    "": dict.fromkeys(("data", "loss", "optim", "model", "trainer", "callbacks", "logger"), Any)
    | {"seed": int, "max_images": Count | None, "watch_every": Count, "resume": str | None, "folder": str | None},
    "model": {"name": str, "game": Any},
}


def build(config: DictConfig) -> tuple[GAN, LightningDataModule, Recipe]:
    """The module and its data, as the configuration says; and the recipe, in which what the data alone knows (size and
    channels left null) is filled in.

    Raises:
        Mistake: a value that makes no sense, or data that are not there.
    """
    check({key: config[key] for key in ("seed", "max_images", "watch_every")})
    check(OmegaConf.to_container(config.data, resolve=True), "data")
    seed_everything(stream(config.seed) % 2**32, verbose=False)
    data = make(config.data)
    height, width = data.size
    config.data.size = height if height == width else [height, width]
    config.data.channels = data.channels
    recipe: Recipe = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    check(recipe)
    return build_module(recipe), data, recipe


def build_module(recipe: Recipe) -> GAN:
    """The module alone, as new; it needs no data."""
    torch.manual_seed(stream(recipe["seed"], "weights"))
    loss = make(recipe["loss"])
    optim = make(recipe["optim"])
    game = make(recipe["model"]["game"], _partial_=True)(loss=loss)
    ema = optim.pop("ema", None)
    module = GAN(game, optim, ema, recipe["seed"], recipe["watch_every"], recipe["max_images"])
    module.save_hyperparameters({**recipe, "folder": None, "resume": None})
    return module


def build_trainer(recipe: Recipe) -> Trainer:
    """Lightning's Trainer with the recipe's callbacks and loggers."""
    arguments = dict(recipe["trainer"])
    callbacks = {**recipe["callbacks"]}
    if not arguments.pop("enable_progress_bar"):
        callbacks.pop("progress", None)
    arguments["strategy"] = _strategy(arguments)
    if recipe["max_images"]:
        arguments["max_epochs"] = -1
    try:
        return make(arguments, _partial_=True)(  # type: ignore[no-any-return]
            callbacks=[make(node) for node in callbacks.values() if node],
            logger=[make(node) for node in recipe["logger"].values() if node],
            plugins=[AtomicIO()],
            default_root_dir=recipe["folder"],
            use_distributed_sampler=False,  # the deck deals to ranks itself
            enable_progress_bar=False,  # ours counts images
            enable_model_summary=False,
            log_every_n_steps=1,
            num_sanity_val_steps=0,
        )
    except (ValueError, TypeError, ImportError, MisconfigurationException) as error:
        words = " ".join(str(error).split())
        raise Mistake(f"trainer: {words} (trainer=auto takes what this machine has)") from error


def _strategy(arguments: Recipe) -> Any:
    """Ours for several processes, Lightning's choice for one."""
    strategy, alone = arguments["strategy"], arguments["devices"] in (1, "1") and arguments["num_nodes"] == 1
    if strategy == "auto" and not alone:
        return {"_target_": "oakleaf.parallel.AllReduce"}
    if isinstance(strategy, str) and strategy.startswith(("ddp", "fsdp", "deepspeed")):
        raise Mistake(
            f"trainer.strategy={strategy}: its wrapper takes the idle player's weights for an error; "
            "trainer=ddp averages each player's gradients over processes by itself"
        )
    return strategy


def make(node: Any, **changes: Any) -> Any:
    """What a node describes, built from plain containers. A Mistake in a constructor comes out as itself."""
    try:
        return instantiate(node, **changes, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, Mistake):
            raise error.__cause__ from None
        raise


def load(checkpoint: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None) -> GAN:
    """The module of a checkpoint or a run's folder, in eval mode on the CPU. Only the file is needed.

    overrides: values by dotted key that replace the recipe's.

    Raises:
        Mistake: no such file, or no checkpoint of ours.
    """
    content = read(checkpoint)
    recipe = OmegaConf.create(content["hyper_parameters"])
    for key, value in (overrides or {}).items():
        OmegaConf.update(recipe, key, value)
    module = build_module(OmegaConf.to_container(recipe, resolve=True))  # type: ignore[arg-type]
    module.on_load_checkpoint(content)
    try:
        module.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise Mistake(f"{checkpoint}: its weights do not fit its recipe ({_first_line(error)})") from error
    return module.eval()


def check(node: Any, path: str = "") -> None:
    """Hold a resolved recipe against the signatures of the classes it names, before any of them is built.

    Raises:
        Mistake: an unknown key, with the nearest known one; a value of the wrong type or out of its range.
    """
    if isinstance(node, list):
        for i, item in enumerate(node):
            check(item, f"{path}[{i}]")
    if not isinstance(node, Mapping):
        return
    known = _signature(node, path) if "_target_" in node else FIXED.get(path)
    for key, value in node.items():
        if str(key).startswith("_"):
            continue
        here = f"{path}.{key}" if path else str(key)
        if refused := instead(here):
            raise Mistake(refused)
        if known is not None and key not in known:
            raise Mistake(unknown(here, known))
        if known is not None and not isinstance(value, Mapping):  # what a node becomes, its class knows
            _validate(here, value, known[key])
        if known is None and "_target_" not in node and not (value is None or isinstance(value, Mapping)):
            raise Mistake(f"{here}={value}: a thing with a _target_ is expected there, or null")
        check(value, here)


def _signature(node: Mapping[str, Any], path: str) -> dict[str, Any] | None:
    """The parameters of the class that a node names, with their annotations; None if it takes anything."""
    try:
        target = get_object(node["_target_"])
    except Exception as error:
        raise Mistake(f"{path}._target_={node['_target_']}: there is no such class ({_first_line(error)})") from error
    parameters = inspect.signature(target).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return None
    return {name: p.annotation for name, p in parameters.items()}


def _validate(path: str, value: Any, annotation: Any) -> None:
    if annotation is inspect.Parameter.empty:
        return
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError):
        return  # an annotation that says nothing about plain values
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        reasons = dict.fromkeys(e["msg"].removeprefix("Input ").replace("'", "") for e in error.errors())
        raise Mistake(f"{path}={value}: {' or '.join(reasons)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

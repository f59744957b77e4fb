"""From a recipe to Lightning's Trainer, with callbacks and loggers."""

import os
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from oakleaf.builder.recipe import Recipe, instantiate_allowed
from oakleaf.errors import UserError, one_line
from oakleaf.runtime.checkpoint_io import AtomicCheckpointIO
from oakleaf.runtime.sync_batchnorm import SyncBatchNorm

NEEDED = ("accelerator", "devices", "enable_progress_bar", "max_epochs", "num_nodes", "precision", "strategy")


def build_trainer(recipe: Recipe) -> Trainer:
    """Lightning's Trainer with the recipe's callbacks and loggers."""
    arguments = dict(recipe["trainer"])
    if missing := [key for key in NEEDED if key not in arguments]:
        raise UserError(f"trainer.{missing[0]}: it is needed; give it a value, as in trainer=auto")
    callbacks = {**(recipe.get("callbacks") or {})}
    if not arguments.pop("enable_progress_bar"):
        callbacks.pop("progress", None)
    arguments["strategy"] = _strategy(arguments)
    if str(arguments["precision"]) in ("16", "16-mixed", "16-true"):
        raise UserError("trainer.precision=16-mixed: two players share no loss scaler; bf16-mixed needs none")
    if recipe["max_images"]:
        arguments["max_epochs"] = -1
    joint = [SyncBatchNorm()] if arguments.pop("sync_batchnorm", False) else []
    try:
        trainer: Trainer = instantiate_allowed(arguments, _partial_=True)(
            callbacks=_made("callbacks", callbacks, Callback),
            logger=_made("logger", recipe.get("logger") or {}, Logger),
            plugins=[AtomicCheckpointIO(), *joint],
            default_root_dir=recipe["folder"],
            use_distributed_sampler=False,  # the deck deals to ranks itself
            enable_progress_bar=False,  # ours counts images
            enable_model_summary=False,
            log_every_n_steps=1,
            num_sanity_val_steps=0,
        )
    except (ValueError, TypeError, AttributeError, ImportError, MisconfigurationException) as error:
        raise UserError(f"trainer: {one_line(error)} (trainer=auto takes what this machine has)") from error
    if trainer.strategy.root_device.type == "cuda":
        _hasten(arguments, trainer.precision)
    return trainer


def _hasten(arguments: Recipe, precision: str) -> None:
    """What a GPU is faster by: cuDNN's algorithms chosen by trying, which may be others the next time; and fp32's
    products in TF32, as its convolutions are. Beside bf16, what stays fp32 (points, minibatch discrimination) needs it.
    """
    if arguments.get("benchmark") is None:
        torch.backends.cudnn.benchmark = not arguments.get("deterministic")
    torch.set_float32_matmul_precision("high" if precision == "32-true" else "highest")


def _made(group: str, nodes: Recipe, kind: type) -> list[Any]:
    """What a group's nodes describe, all of one kind."""
    made = {name: instantiate_allowed(node) for name, node in nodes.items() if node}
    if strange := [name for name, one in made.items() if not isinstance(one, kind)]:
        raise UserError(f"{group}.{strange[0]}: a {type(made[strange[0]]).__name__} is none of Lightning's {group}")
    return list(made.values())


def _strategy(arguments: Recipe) -> Any:
    """Ours for several processes, Lightning's choice for one."""
    most, asked = 8 * (os.cpu_count() or 1), str(arguments["devices"])
    if arguments["accelerator"] == "cpu" and asked.isdigit() and int(asked) > most:
        raise UserError(
            f"trainer.devices={asked}: so many processes would only wait for each other; at most {most} here"
        )
    strategy, alone = arguments["strategy"], arguments["devices"] in (1, "1") and arguments["num_nodes"] == 1
    if strategy == "auto" and not alone:
        return {"_target_": "oakleaf.runtime.distributed.AllReduceStrategy"}
    if isinstance(strategy, str) and strategy.startswith(("ddp", "fsdp", "deepspeed")):
        raise UserError(
            f"trainer.strategy={strategy}: its wrapper takes the idle player's weights for an error; "
            "trainer=ddp averages each player's gradients over processes by itself"
        )
    return strategy

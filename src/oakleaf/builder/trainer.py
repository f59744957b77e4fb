"""From a recipe to Lightning's Trainer with its callbacks and loggers."""

import logging
import re
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from oakleaf.builder.callbacks import build_callbacks
from oakleaf.builder.instantiate import instantiate_allowed, instantiate_group
from oakleaf.builder.module import is_gan
from oakleaf.builder.recipe import Recipe
from oakleaf.errors import UserError, one_line
from oakleaf.runtime.checkpoint_io import AtomicCheckpointIO
from oakleaf.runtime.clock import Clock
from oakleaf.runtime.loggers import log_over_images
from oakleaf.runtime.run_dir import PROFILE
from oakleaf.runtime.sync_batchnorm import SyncBatchNorm
from oakleaf.runtime.threads import available_cores, set_threads, spinning

log = logging.getLogger(__name__)

DURATION = re.compile(r"\d+:\d\d:\d\d:\d\d")
REQUIRED = ("accelerator", "devices", "enable_progress_bar", "max_epochs", "num_nodes", "precision", "strategy")


def build_trainer(recipe: Recipe) -> Trainer:
    """Build Lightning's Trainer with the recipe's callbacks and loggers.

    Raises:
        UserError: an argument is missing, or the Trainer refuses one.
    """
    arguments = dict(recipe["trainer"])
    if missing := [key for key in REQUIRED if key not in arguments]:
        raise UserError(f"trainer.{missing[0]}: it is needed; give it a value, as in trainer=auto")
    with_bar = arguments.pop("enable_progress_bar")
    arguments.pop("enable_model_summary", None)  # the command prints it
    arguments["strategy"] = _strategy(arguments)
    if recipe["max_images"]:
        arguments["max_epochs"] = -1
    _check_arguments(arguments)
    sync_batchnorm = [SyncBatchNorm()] if arguments.pop("sync_batchnorm", False) else []
    nodes = recipe.get("callbacks") or {}
    callbacks = build_callbacks(nodes, recipe["folder"], with_bar, for_gan=is_gan(recipe))
    if not is_gan(recipe):
        callbacks.insert(0, Clock(recipe["seed"]))
    try:
        trainer: Trainer = instantiate_allowed(arguments, _partial_=True)(
            callbacks=callbacks,
            logger=instantiate_group("logger", recipe.get("logger") or {}, Logger),
            plugins=[AtomicCheckpointIO(), *sync_batchnorm],
            default_root_dir=recipe["folder"],
            use_distributed_sampler=False,  # our own sampler divides the data among processes
            enable_progress_bar=with_bar and any(isinstance(callback, ProgressBar) for callback in callbacks),
            enable_model_summary=False,
            log_every_n_steps=recipe["log_every"],
            num_sanity_val_steps=0,
        )
    except (ValueError, TypeError, AttributeError, ImportError, MisconfigurationException) as error:
        raise UserError(f"trainer: {one_line(error)} (trainer=auto takes what this machine has)") from error
    _configure_for_oakleaf(trainer, recipe)
    if trainer.world_size > 1 and recipe.get("nonfinite", {}).get("max_rollbacks"):
        raise UserError("nonfinite.max_rollbacks needs a single process; with several, resume=auto continues the run")
    if trainer.strategy.root_device.type == "cuda":
        _configure_gpu(arguments, trainer.precision)
    _configure_cpu(trainer, recipe.get("threads"))
    return trainer


def _check_arguments(arguments: Recipe) -> None:
    """Check arguments that Lightning takes, or answers in words of its own.

    Raises:
        UserError: 16-bit floats, a time in another form, or a run without batches.
    """
    precision, time, batches = (arguments.get(key) for key in ("precision", "max_time", "limit_train_batches"))
    if str(precision) in ("16", "16-mixed", "16-true"):
        raise UserError(f"trainer.precision={precision}: two players cannot share a loss scaler; bf16-mixed needs none")
    if time is not None and not isinstance(time, dict) and not DURATION.fullmatch(str(time)):
        raise UserError(f"trainer.max_time={time}: DD:HH:MM:SS is expected, 00:02:00:00 for two hours")
    if batches is not None and not isinstance(batches, bool) and batches == 0:
        raise UserError("trainer.limit_train_batches=0: nothing would be trained; null takes all batches")
    if arguments["max_epochs"] == 0:
        raise UserError("trainer.max_epochs=0: nothing would be trained")


def _configure_for_oakleaf(trainer: Trainer, recipe: Recipe) -> None:
    """Set what the Trainer's constructor has no argument for.

    Raises:
        UserError: two profilers of torch would run at the same time.
    """
    log_over_images(trainer)
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        trainer.fit_loop.epoch_loop.max_steps = -1  # it would count the steps of all players, not batches
    profiler: Any = trainer.profiler  # type: ignore[attr-defined]
    if not isinstance(profiler, PassThroughProfiler):
        if recipe.get("profile"):
            raise UserError("profile=true and trainer.profiler cannot run together; choose one")
        profiler.dirpath = profiler.dirpath or f"{recipe['folder']}/{PROFILE}"
        profiler.filename = profiler.filename or "report"


def _configure_cpu(trainer: Trainer, threads: int | None) -> None:
    """Set the number of threads; the processes of this machine share its cores."""
    count = set_threads(threads, trainer.num_devices if trainer.world_size > 1 else 1)
    if count > 1 and spinning() and trainer.strategy.root_device.type == "cpu":
        log.warning(
            "torch was imported before oakleaf, so its %d threads spin while they wait for each other, and training is "
            "slow while other programs run: import oakleaf first, or set OMP_WAIT_POLICY=PASSIVE",
            count,
        )


def _configure_gpu(arguments: Recipe, precision: str) -> None:
    """Set what makes a GPU faster.

    cuDNN chooses its algorithms by trying them, so another run may use others. With 32-true, matrix products use TF32,
    as convolutions do; with bf16, what stays in float32 (points, minibatch discrimination) needs its full precision.
    """
    if arguments.get("benchmark") is None:
        torch.backends.cudnn.benchmark = not arguments.get("deterministic")
    torch.set_float32_matmul_precision("high" if precision == "32-true" else "highest")


def _strategy(arguments: Recipe) -> Any:
    """Return our own strategy for several processes, Lightning's choice for one."""
    most, devices = 8 * available_cores(), str(arguments["devices"])
    if arguments["accelerator"] == "cpu" and devices.isdigit() and int(devices) > most:
        raise UserError(f"trainer.devices={devices}: too many processes for this machine; at most {most} here")
    strategy, single = arguments["strategy"], arguments["devices"] in (1, "1") and arguments["num_nodes"] == 1
    if strategy == "auto" and not single:
        return {"_target_": "oakleaf.runtime.distributed.AllReduceStrategy"}
    if isinstance(strategy, str) and strategy.startswith(("ddp", "fsdp", "deepspeed")):
        raise UserError(
            f"trainer.strategy={strategy}: its wrapper treats the weights of the other player as an error; "
            "trainer=ddp averages each player's gradients over processes by itself"
        )
    return strategy

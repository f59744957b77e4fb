"""Callbacks that monitor a logged value, and runs that end early because of it.

Lightning's `EarlyStopping` and `ModelCheckpoint` check their value after a validation loop or at the end of an epoch. A
GAN has no validation loop, and its losses and scores appear at intervals of images seen. `Monitors` therefore calls
their hook `on_validation_end` at the end of each iteration in which their value was logged.
"""

import difflib
import logging
from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, Timer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from torch import Tensor

from oakleaf import compat
from oakleaf.errors import UserError
from oakleaf.runtime.loggers import MetricsCSV

log = logging.getLogger(__name__)


class Monitors(Checkpoint):
    """Let each callback with an attribute `monitor` check its value when it is logged, and say why a run ends early.

    A value is new if it was put into `trainer.callback_metrics` (`oakleaf.runtime.loggers.log_scalars`) in this
    iteration. Values of `self.log` are checked in the iterations that log a row (`log_every`), and their means over an
    epoch at its end. If there are several processes, all of them use the values of the first.

    The class is a checkpoint only in name: Lightning calls checkpoints after all other callbacks, when every value of
    the iteration was logged, and the files that are saved afterwards contain the state of the callbacks here. The
    builder puts it before all others, so it is the first of the checkpoints.

    Attributes:
        best_images: by the state key of an `EarlyStopping`, images seen at its best value so far.
        stop_reason: why `EarlyStopping` ended the run; empty if it did not.
    """

    def __init__(self) -> None:
        self.best_images: dict[str, int] = {}
        self.stop_reason = ""
        self.ended = False  # whether `on_early_end` was called
        self.names_checked = False
        self.seen: dict[str, Tensor] = {}  # the values that were checked, to recognise new ones
        self.names_of_lightning: set[str] = set()  # logged by `self.log`
        self.callbacks: list[Any] = []
        self.patience: dict[str, int] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the callbacks that monitor a value. Their state is not restored yet."""
        self.callbacks = [callback for callback in _callbacks(trainer) if getattr(callback, "monitor", None)]
        self.patience = {stop.state_key: stop.patience for stop in self._early_stopping()}

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """End a resumed run at once that `EarlyStopping` had ended.

        Lightning restores `patience` with the rest of the state; that of the configuration replaces it.
        """
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSV):
                logger.start = pl_module.images_seen
        for stop in self._early_stopping():
            stop.patience = self.patience[stop.state_key]
            if pl_module.iteration and stop.wait_count >= stop.patience:
                self.stop_reason = _reason(stop, self._images_without_better(stop, pl_module))
                trainer.should_stop = True

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:  # type: ignore[override]
        """Check the new values of this iteration, and at the first row the names."""
        row = pl_module.iteration % pl_module.log_every == 0
        self._check(trainer, pl_module, with_logged=row)
        if row and not self.names_checked:
            self.names_checked = True
            for message in self._unknown_names(trainer):
                log.warning("%s", message)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Check the means over the epoch that `self.log(..., on_epoch=True)` has just computed.

        Raises:
            UserError: after ten rows and an epoch, the value of a strict `EarlyStopping` was not logged.
        """
        self._check(trainer, pl_module, with_logged=True)
        if not trainer.should_stop and pl_module.iteration >= 10 * pl_module.log_every:
            for message in self._unknown_names(trainer, strict=True):
                raise UserError(message)

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Say why the run ended early."""
        reason = self.stop_reason or _time_is_up(trainer)
        if reason and trainer.is_global_zero:
            log.info("stopped at %s images: %s", f"{pl_module.images_seen:,}", reason)

    def _check(self, trainer: Trainer, module: Any, with_logged: bool) -> None:
        """Run the checks of the callbacks whose value is new: those that stop the run, then those that save it.

        In between, callbacks with a method `on_early_end` complete a run that ends before its planned length.
        """
        new = self._new_values(trainer, with_logged) if self.callbacks else set()
        for callback in self.callbacks:
            if callback.monitor in new and not isinstance(callback, Checkpoint):
                self._check_one(callback, trainer, module)
        if trainer.should_stop and not self.ended:
            self.ended = True
            for callback in _callbacks(trainer):
                if hasattr(callback, "on_early_end") and not _is_complete(module):
                    callback.on_early_end(trainer, module)
            new |= self._new_values(trainer, with_logged=False) if self.callbacks else set()
        trainer.callback_metrics["images"] = torch.tensor(module.images_seen)  # for names of checkpoints
        for callback in self.callbacks:
            if callback.monitor in new and isinstance(callback, Checkpoint):
                callback.on_validation_end(trainer, module)

    def _new_values(self, trainer: Trainer, with_logged: bool) -> set[str]:
        """Return the names of the values that were logged since the last call.

        Args:
            trainer: the run's Trainer.
            with_logged: whether to return those of `self.log`, too.
        """
        logged = set(compat.logged_metrics(trainer))
        self.names_of_lightning |= logged
        metrics = trainer.callback_metrics
        new = {name: value for name, value in metrics.items() if value is not self.seen.get(name)}
        new = {name: value for name, value in new.items() if name not in self.names_of_lightning}
        if trainer.world_size > 1:
            values = trainer.strategy.broadcast({name: float(value) for name, value in new.items()})
            new = {name: torch.tensor(value) for name, value in values.items()}
            metrics.update(new)
        self.seen.update(new)
        return new.keys() | (logged if with_logged else set())

    def _check_one(self, callback: Any, trainer: Trainer, module: Any) -> None:
        was_stopped = trainer.should_stop
        callback.on_validation_end(trainer, module)
        if isinstance(callback, EarlyStopping) and callback.wait_count == 0:
            self.best_images[callback.state_key] = module.images_seen
        if trainer.should_stop and not was_stopped:
            self.stop_reason = _reason(callback, self._images_without_better(callback, module))

    def _images_without_better(self, callback: Callback, module: Any) -> int:
        return int(module.images_seen - self.best_images.get(callback.state_key, 0))

    def _early_stopping(self) -> list[EarlyStopping]:
        return [callback for callback in self.callbacks if isinstance(callback, EarlyStopping)]

    def _unknown_names(self, trainer: Trainer, strict: bool = False) -> list[str]:
        """Return a message for each monitored value that was not logged and that no callback will log later.

        Args:
            trainer: the run's Trainer.
            strict: only for callbacks that say so, as `EarlyStopping(strict=True)` does.
        """
        later = {name for callback in _callbacks(trainer) for name in getattr(callback, "scalar_names", ())}
        known = sorted(later.union(trainer.callback_metrics))
        selected = [callback for callback in self.callbacks if not strict or getattr(callback, "strict", False)]
        return [_unknown(callback, known) for callback in selected if callback.monitor not in known]

    def state_dict(self) -> dict[str, Any]:
        """Return the images seen at the best values, for the checkpoint; nothing if no callback stops the run."""
        return {"best_images": dict(self.best_images)} if self.best_images else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.best_images = dict(state_dict["best_images"])


def _callbacks(trainer: Trainer) -> list[Callback]:
    return trainer.callbacks  # type: ignore[attr-defined, no-any-return]


def _is_complete(module: Any) -> bool:
    """Return whether the run has its planned length."""
    total = module.total_images
    return total is not None and module.images_seen >= total


def _reason(callback: Any, images: int) -> str:
    """Return why a callback ends the run, as a part of a sentence.

    Args:
        callback: it has an attribute `monitor`.
        images: images seen since the best value.
    """
    who = f"{type(callback).__name__}, {callback.monitor}"
    if not isinstance(callback, EarlyStopping):
        return who
    return {
        EarlyStoppingReason.STOPPING_THRESHOLD: f"{who} has reached the threshold {callback.stopping_threshold}",
        EarlyStoppingReason.DIVERGENCE_THRESHOLD: f"{who} is beyond the threshold {callback.divergence_threshold}",
        EarlyStoppingReason.NON_FINITE_METRIC: f"{who} is not finite",
    }.get(
        callback.stopping_reason,
        f"{who} was not better than {float(callback.best_score):.4g} for {images:,} images "
        f"({callback.wait_count} of {callback.patience} checks); a larger patience continues the run",
    )


def _time_is_up(trainer: Trainer) -> str:
    """Return the reason if a time limit has ended the run; empty if none has."""
    for timer in _callbacks(trainer):
        if isinstance(timer, Timer) and (left := timer.time_remaining()) is not None and left <= 0:
            limit = timedelta(seconds=round(timer.time_elapsed() + left))
            return f"the time limit of {limit} has passed; resume= with a longer trainer.max_time continues the run"
    return ""


def _unknown(callback: Any, known: list[str]) -> str:
    near = difflib.get_close_matches(callback.monitor, known, n=1, cutoff=0.5)
    meant = f" Did you mean {near[0]}?" if near else ""
    return (
        f"{type(callback).__name__}: monitor={callback.monitor} has not been logged.{meant} Logged: {', '.join(known)}"
    )

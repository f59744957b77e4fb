"""Log scalars every few iterations."""

import time
from typing import Any

from lightning.pytorch import Callback, Trainer

from oakleaf.gan import GAN
from oakleaf.runtime.loggers import log_scalars


class LogScalars(Callback):
    """Write one row of scalars to all loggers every `log_every` iterations and at the end of the run.

    A row has the means of all losses since the last row, diagnostics and gradient norms of the first iteration after
    it, images per second, and the number of steps that were skipped so far because they were not finite. The x-axis is
    images seen. All names are listed in `docs/reference/logged_names.md`.
    """

    needs_gan = True

    def __init__(self) -> None:
        self.last_time = 0.0
        self.last_images = 0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.last_time, self.last_images = time.perf_counter(), pl_module.images_seen

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, *_: Any) -> None:  # type: ignore[override]
        if pl_module.iteration % pl_module.log_every == 0:
            self.write_row(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        if pl_module.images_seen > self.last_images or pl_module.running_means:
            self.write_row(trainer, pl_module)

    def write_row(self, trainer: Trainer, module: GAN) -> None:
        """Write the scalars since the last row."""
        scalars = module.running_means.pop()  # waits for the device, so the time below includes all work
        scalars |= {f"nonfinite_steps/{player}": float(count) for player, count in module.guard.skipped.items()}
        module.log_next = set(module.players)
        now, images = time.perf_counter(), module.images_seen - self.last_images
        if images:
            scalars["images_per_second"] = images / max(now - self.last_time, 1e-9)
        scalars["epoch"] = float(trainer.current_epoch)
        self.last_time, self.last_images = now, module.images_seen
        module.last_scalars = scalars
        log_scalars(trainer, scalars)

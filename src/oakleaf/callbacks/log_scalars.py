"""Scalars to the loggers, now and then."""

import time
from typing import Any

from lightning.pytorch import Callback, Trainer

from oakleaf.gan import GAN
from oakleaf.runtime.loggers import log_scalars


class LogScalars(Callback):
    """Every `log_every` turns: the means of what the players paid since the last look, what they saw and their
    gradients' norm at the first turn after it, images/s, and how many steps were not taken so far (`NonFiniteGuard`).

    Names are the configuration's own: `discriminator/gradient_penalty` is the penalty of that name. The x-axis is
    images seen.
    """

    def __init__(self) -> None:
        self.since = 0.0
        self.images = 0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.since, self.images = time.perf_counter(), pl_module.images_seen

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, *_: Any) -> None:  # type: ignore[override]
        if pl_module.iteration % pl_module.log_every == 0:
            self.write(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        if pl_module.iteration % pl_module.log_every:
            self.write(trainer, pl_module)

    def write(self, trainer: Trainer, module: GAN) -> None:
        scalars = module.running_means.pop()  # waits for the device, so the time is true
        scalars |= {f"{player}/skipped": float(count) for player, count in module.guard.skipped.items()}
        module.log_next = set(module.players)
        now = time.perf_counter()
        scalars["images_per_second"] = (module.images_seen - self.images) / max(now - self.since, 1e-9)
        scalars["epoch"] = float(trainer.current_epoch)
        self.since, self.images = now, module.images_seen
        module.last_scalars = scalars
        log_scalars(trainer.loggers, scalars, module.images_seen)

"""How long a run is going to take."""

import logging
import math
import time
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Timer

log = logging.getLogger(__name__)

SECONDS = 5.0  # of training after which its speed is known
SHORT = 0.1  # of the recipe's own length
WORTH_SAYING = 10.0  # seconds that are left


class ExpectedDuration(Callback):
    """Log once, after the first seconds, how long the run is expected to take, and that it is short if it is.

    If `trainer.max_time` ends the run earlier, the images that it lets the run see are logged instead. The first
    iteration does not count, since libraries prepare themselves in it. A run is short if its command gives it less than
    a tenth of the length that its configuration has without that.

    Attributes:
        recipe_images, recipe_epochs: the length of the configuration in images or epochs, if the command sets another;
            else None. The command sets both.
    """

    def __init__(self) -> None:
        self.recipe_images: int | None = None
        self.recipe_epochs: int | None = None
        self.start: tuple[float, int] | None = None  # time and images seen after the first iteration
        self.done = False

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:  # type: ignore[override]
        """Log the duration if it is known by now."""
        now, images = time.monotonic(), pl_module.images_seen
        if self.start is None:
            self.start = now, images
            if trainer.is_global_zero and (text := self._shortness(trainer, pl_module)):
                log.info("%s", text)
        elif not self.done and now - self.start[0] >= SECONDS:
            self.done = True
            if trainer.is_global_zero and (text := self._expectation(trainer, pl_module, now)):
                log.info("%s", text)

    def _shortness(self, trainer: Trainer, module: Any) -> str:
        """A sentence if the run is far shorter than its recipe, else an empty text."""
        epoch = trainer.num_training_batches * module.global_batch_size
        recipe, total = self.recipe_images or (self.recipe_epochs or 0) * epoch, module.total_images
        if not total or not 0 < total < SHORT * recipe or recipe == math.inf:
            return ""
        return (
            f"a short run: {total:,} images are {total / recipe:.1%} of the {int(recipe):,} that this recipe is made "
            "for, so its samples and numbers say little"
        )

    def _expectation(self, trainer: Trainer, module: Any, now: float) -> str:
        assert self.start is not None
        speed = (module.images_seen - self.start[1]) / (now - self.start[0])
        timers = [callback.time_remaining() for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore
        limit = min((seconds for seconds in timers if seconds is not None), default=None)
        total = module.total_images
        left = (total - module.images_seen) / speed if total else None
        if limit is not None and (left is None or limit < left):
            images, of = module.images_seen + int(speed * limit), f" of {total:,}" if total else ""
            return f"{speed:,.0f} images/s: trainer.max_time ends the run after about {images:,} images{of}"
        if left is None or left < WORTH_SAYING:
            return ""
        return f"{speed:,.0f} images/s: about {duration(left)} left for {total - module.images_seen:,} images"


def duration(seconds: float) -> str:
    """Return a duration as text: `40 s`, `7 min`, `2 h 10 min`, `3 d 4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"

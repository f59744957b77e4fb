"""How long a run is going to take."""

import logging
import time
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Timer

log = logging.getLogger(__name__)

SECONDS = 5.0  # of training after which its speed is known
WORTH_SAYING = 10.0  # seconds that are left


class ExpectedDuration(Callback):
    """Log once, after the first seconds, how long the run will take, or how far `trainer.max_time` lets it go.

    The first iteration does not count, since libraries prepare themselves in it.
    """

    def __init__(self) -> None:
        self.start: tuple[float, int] | None = None  # time and images seen after the first iteration
        self.done = False

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:  # type: ignore[override]
        """Log the duration if it is known by now."""
        now, images = time.monotonic(), pl_module.images_seen
        if self.start is None:
            self.start = now, images
        elif not self.done and now - self.start[0] >= SECONDS:
            self.done = True
            if trainer.is_global_zero and (text := self._expectation(trainer, pl_module, now)):
                log.info("%s", text)

    def _expectation(self, trainer: Trainer, module: Any, now: float) -> str:
        assert self.start is not None
        speed = (module.images_seen - self.start[1]) / (now - self.start[0])
        timers = [callback.time_remaining() for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore
        limit = min((seconds for seconds in timers if seconds is not None), default=None)
        total = module.total_images
        left = (total - module.images_seen) / speed if total else None
        if limit is not None and (left is None or limit < left):
            images = module.images_seen + int(speed * limit)
            end = f"about {images:,} images{_share(images, total)}"
            return f"{speed:,.0f} images/s: trainer.max_time ends the run after {end}"
        if left is None or left < WORTH_SAYING:
            return ""
        return f"{speed:,.0f} images/s: about {duration(left)} left for {total - module.images_seen:,} images"


def _share(images: int, total: int | None) -> str:
    return f" of {total:,}" if total else ""


def duration(seconds: float) -> str:
    """Return a duration as text: `40 s`, `7 min`, `2 h 10 min`, `3 d 4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"

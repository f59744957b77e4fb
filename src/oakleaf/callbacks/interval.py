"""Intervals that are measured in training images seen, and limited by the time that the periodic action takes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from oakleaf.runtime import distributed

ENDLESS = 1000  # batches that count as an epoch where an epoch has no known length
MIN_SECONDS = 2.0  # between two actions
MAX_SHARE = 0.03  # of the time since the last action that the action may take


class Interval:
    """Decide after each iteration whether a periodic action is due.

    An interval that was set is kept. One that follows from the length of the run is limited by time, so that a short
    run, or one of few images, does not consist of its actions: an action that is due is left out if less than
    `MIN_SECONDS` have passed since the last one, or if it would take more than `MAX_SHARE` of the time since then.

    Args:
        every: images seen between two actions; None: the run's length divided by `parts`, or once an epoch where the
            run has no end (once in 1,000 batches where the epoch has no known length).
        parts: how often the action happens in the whole run, if `every` is None.
        limited: whether time limits the action, if `every` is None.
        joint: whether all processes of a run take part in the action; they then decide as the first one does.
    """

    def __init__(self, every: int | None, parts: int = 1, limited: bool = False, joint: bool = False) -> None:
        self.every, self.parts, self.limited, self.joint = every, parts, limited and every is None, joint
        self.seconds = 0.0  # that the last action took
        self.last_end: float | None = None

    def is_due(self, module: Any) -> bool:
        """Return whether the last iteration crossed a multiple of the interval, and there is time for the action."""
        every = self.every or self._default(module)
        crossed = module.images_seen // every > (module.images_seen - module.global_batch_size) // every
        return crossed and (not self.limited or self._has_time(module))

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Measure the action, which is the block."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.last_end = time.monotonic()
            self.seconds = self.last_end - start

    def _has_time(self, module: Any) -> bool:
        now = time.monotonic()
        if self.last_end is None:  # nothing is known yet: count from here
            self.last_end = now
        enough = now - self.last_end >= max(MIN_SECONDS, self.seconds / MAX_SHARE)
        return bool(distributed.broadcast_scalar(float(enough), module.device)) if self.joint else enough

    def _default(self, module: Any) -> int:
        if module.total_images:
            return max(1, int(module.total_images // self.parts))
        return max(1, int(min(module.trainer.num_training_batches, ENDLESS) * module.global_batch_size))

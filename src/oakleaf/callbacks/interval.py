"""Intervals that are measured in training images seen."""

from dataclasses import dataclass

from oakleaf.gan import GAN

ENDLESS = 1000  # batches that count as an epoch where an epoch has no known length


@dataclass
class Interval:
    """Decide after each iteration whether a periodic action is due.

    Args:
        every: images seen between two actions; null: the run's length divided by `parts`, or once an epoch where the
            run has no end (once in 1,000 batches where the epoch has no known length).
        parts: how often the action happens in the whole run, if `every` is null.
    """

    every: int | None
    parts: int = 1

    def is_due(self, module: GAN) -> bool:
        """Return whether the last iteration crossed a multiple of the interval."""
        every = self.every or self._default(module)
        return module.images_seen // every > (module.images_seen - module.global_batch_size) // every

    def _default(self, module: GAN) -> int:
        batches = min(module.trainer.num_training_batches, ENDLESS)
        total = module.total_images or batches * module.global_batch_size * self.parts
        return max(1, int(total // self.parts))

"""Intervals on the run's clock, which counts images."""

from dataclasses import dataclass

from oakleaf.gan import GAN


@dataclass
class Interval:
    """Every so many images; or, with every = null, `parts` times in the run, and each epoch of an endless one."""

    every: int | None
    parts: int = 1

    def due(self, module: GAN) -> bool:
        """Whether a boundary was crossed in the turn that has just been played."""
        every = self.every or self._share(module)
        return module.images_seen // every > (module.images_seen - module.global_batch_size) // every

    def _share(self, module: GAN) -> int:
        total = module.total_images or module.trainer.num_training_batches * module.global_batch_size * self.parts
        return max(1, int(total // self.parts))

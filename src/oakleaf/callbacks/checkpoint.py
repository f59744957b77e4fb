"""Saving checkpoints."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint as LightningCheckpoint

from oakleaf.callbacks.interval import Interval
from oakleaf.config.types import PositiveInt
from oakleaf.gan import GAN
from oakleaf.runtime.run_dir import LAST


class Checkpoint(LightningCheckpoint):
    """Save the run to `<folder>/last.ckpt`, and on request to files that are kept.

    Checkpoints are written at the end of an iteration only, so a resumed run continues exactly where this one stopped.

    Args:
        folder: where the files are written.
        every: images between two writes of `last.ckpt`; null: 20 times in the run, less often in one that is
            short (`Interval`). The end of the run is always saved.
        keep_every: images between two checkpoints `<images seen>.ckpt` that are kept; null: none is kept.
    """

    def __init__(self, folder: str, every: PositiveInt | None = None, keep_every: PositiveInt | None = None) -> None:
        self.folder, self.saved_images = Path(folder), -1
        self.interval = Interval(every, parts=20, limited=True, joint=True)
        self.keep_interval = Interval(keep_every) if keep_every else None

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, *_: Any) -> None:  # type: ignore[override]
        """Save whichever checkpoints are due."""
        if self.keep_interval and self.keep_interval.is_due(pl_module):
            trainer.save_checkpoint(self.folder / f"{pl_module.images_seen:012d}.ckpt")
        if self.interval.is_due(pl_module) or self._is_last_iteration(trainer):
            self._save(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Save the run if a callback has ended it at the end of an epoch."""
        if trainer.should_stop and self.saved_images != pl_module.images_seen:
            self._save(trainer, pl_module)

    def _save(self, trainer: Trainer, module: Any) -> None:
        with self.interval.timed():
            trainer.save_checkpoint(self.folder / LAST.name)
        self.saved_images = module.images_seen

    @staticmethod
    def _is_last_iteration(trainer: Trainer) -> bool:
        """Return whether the run ends with this iteration.

        The last checkpoint must be written here and not in `on_train_end`, because Lightning records a checkpoint of
        `on_train_end` as the end of an epoch, even if the run stopped in the middle of one.
        """
        last_epoch = trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch + 1
        return trainer.should_stop or (trainer.is_last_batch and last_epoch)

"""Saving the run."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint as LightningCheckpoint

from oakleaf.callbacks.interval import Interval
from oakleaf.config.types import PositiveInt
from oakleaf.gan import GAN
from oakleaf.runtime.checkpoint_io import remove_partial_files
from oakleaf.runtime.run_dir import LAST


class Checkpoint(LightningCheckpoint):
    """`<folder>/last.ckpt`, and `<folder>/<images seen>.ckpt` for those that stay.

    every: images between two savings of the last one; null: 20 times in the run, and always at its end. keep_every:
    images between two that stay; null: none does. Saved at the end of a turn only, where a resumed run goes on exactly.
    """

    def __init__(self, folder: str, every: PositiveInt | None = None, keep_every: PositiveInt | None = None) -> None:
        self.folder = Path(folder)
        self.interval = Interval(every, parts=20)
        self.kept = Interval(keep_every) if keep_every else None

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero:
            remove_partial_files(self.folder)

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, *_: Any) -> None:  # type: ignore[override]
        if self.kept and self.kept.due(pl_module):
            trainer.save_checkpoint(self.folder / f"{pl_module.images_seen:012d}.ckpt")
        if self.interval.due(pl_module) or self._is_last(trainer):
            trainer.save_checkpoint(self.folder / LAST.name)

    @staticmethod
    def _is_last(trainer: Trainer) -> bool:
        """Whether the run ends with this turn. Lightning calls a checkpoint of `on_train_end` the end of an epoch, even
        in the midst of one, so it must be written here."""
        last_epoch = trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch + 1
        return trainer.should_stop or (trainer.is_last_batch and last_epoch)

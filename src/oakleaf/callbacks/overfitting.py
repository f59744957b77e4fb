"""Whether the critic has overfitted: its scores of training images beside those of images that were held out."""

import logging
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from oakleaf.builder.instantiate import instantiate_allowed
from oakleaf.builder.load import resolve_recipe
from oakleaf.callbacks.interval import Interval
from oakleaf.config.types import PositiveInt
from oakleaf.games import Batch
from oakleaf.gan import GAN
from oakleaf.metrics.neighbours import shuffled
from oakleaf.runtime.loggers import log_scalars
from oakleaf.runtime.seeds import seed_generators

log = logging.getLogger(__name__)


class Overfitting(Callback):
    """Score a fixed batch of training images, one of held-out images, and fakes, and log how the mean scores differ.

    - `overfitting/score_gap`: the mean score of training images minus that of held-out images.
    - `overfitting/r_v`: the gap, divided by the mean score of training images minus that of fakes. 0: no overfitting;
      1: the critic takes held-out images for fakes.

    The critic is in eval mode and sees the images without augmentation. Held-out images are those of another split of
    the same data (`data.source.split`). Where the data have no such split, or the run is trained on all of it, a
    warning is logged and nothing is measured.

    Args:
        split: the split of the held-out images.
        every: images seen between two measures; null: 20 measures in the run.
        count: images of each kind.

    Attributes:
        batches: training images and held-out images, with the rows that belong to them; empty without a split.

    Reference: Karras 2020, arXiv:2006.06676, eq. (1).
    """

    def __init__(self, split: str = "test", every: PositiveInt | None = None, count: PositiveInt = 256) -> None:
        self.split, self.count, self.interval = split, count, Interval(every, parts=20)
        self.batches: dict[str, Batch] = {}

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Read the images of both kinds, in the first process."""
        if not trainer.is_global_zero:
            return
        recipe = resolve_recipe(pl_module.recipe)["data"]
        source = recipe.get("source") or {}
        if source.get("split") in (None, "all", self.split):
            log.warning("overfitting: data=%s has no held-out images; none are scored", recipe.get("name"))
            return
        held_out = instantiate_allowed({**recipe, "source": {**source, "split": self.split}})
        held_out.prepare_data()
        held_out.setup()
        parts: dict[str, Any] = {"train": trainer.datamodule, "held_out": held_out}  # type: ignore[attr-defined]
        for name, data in parts.items():
            rows = shuffled(data.count, self.count)
            self.batches[name] = {key: x.to(pl_module.device) for key, x in data.batch(rows).items()}

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, *_: Any) -> None:  # type: ignore[override]
        """Score the images if it is time to."""
        if self.batches and self.interval.is_due(pl_module):
            log_scalars(trainer, self.measure(pl_module))

    def measure(self, module: GAN) -> dict[str, float]:
        """Return the gap and r_v."""
        real, fake = {}, {}
        with module.ema_scope(ema=False) as game:
            for name, batch in self.batches.items():
                seed_generators(0, module.device)
                rounds = game.play(batch)
                real[name] = torch.stack([round.on_real.score.float().mean() for round in rounds]).mean()
                fake[name] = torch.stack([round.on_fake.score.float().mean() for round in rounds]).mean()
        gap = real["train"] - real["held_out"]
        separation = real["train"] - (fake["train"] + fake["held_out"]) / 2
        return {"overfitting/score_gap": float(gap), "overfitting/r_v": float(gap / separation)}

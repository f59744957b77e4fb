"""Computing metrics during training."""

import logging
from collections.abc import Mapping
from math import isnan, nan
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from oakleaf.callbacks.interruption import Interruption
from oakleaf.callbacks.interval import Interval
from oakleaf.config.types import PositiveInt
from oakleaf.errors import UserError
from oakleaf.gan import GAN
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.extractors import Extractor
from oakleaf.metrics.metric import Metric
from oakleaf.metrics.scores import evaluate_metrics, sample_count, versions, write
from oakleaf.runtime import distributed, signals
from oakleaf.runtime.loggers import log_scalars
from oakleaf.runtime.run_dir import BEST, IgnoreFullDisk

log = logging.getLogger(__name__)


class Evaluate(Callback):
    """Compute metrics of the EMA generator during training, log them as `metric/<name>`, and keep the best checkpoint.

    The checkpoint with the best value of one metric is saved as `<folder>/checkpoints/best.ckpt`. All values are also
    written to `<folder>/scores/metrics.json`, each with its protocol. If there are several processes, they share the
    work. Every iteration seeds its own random numbers (`GAN`), so an evaluation does not change the training.

    Args:
        folder: the run's folder.
        extractor: the network whose features the metrics compare.
        metric: the metrics, by name.
        best: name of the value that decides about `best.ckpt`; null: no such checkpoint.
        every: images between two evaluations; null: 10 evaluations in the run.
        fake: number of samples.
        real: largest number of real images.

    Attributes:
        record: the best value so far.
    """

    needs_gan = True

    def __init__(
        self,
        folder: str,
        extractor: Extractor,
        metric: Mapping[str, Metric],
        best: str | None = None,
        every: PositiveInt | None = None,
        fake: PositiveInt = 2500,
        real: PositiveInt = 10_000,
    ) -> None:
        self.folder, self.extractor, self.metric, self.best = Path(folder), extractor, dict(metric), best
        self.fake, self.real, self.interval = fake, real, Interval(every, parts=10)
        self.record: float | None = None
        self.evaluated_images = -1  # images seen at the last evaluation
        self.ignore_full_disk = IgnoreFullDisk()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Check the name in `best`.

        Raises:
            UserError: no configured metric gives a value of that name, or the value has no better direction.
        """
        better = [pair for metric in self.metric.values() for pair in metric.better.items()]
        directions = {name: direction for name, direction in better if direction in ("lower", "higher")}
        if self.best is not None and self.best not in directions:
            known = ", ".join(sorted(directions))
            raise UserError(
                f"callbacks.evaluate.best={self.best}: no metric here gives this value; choose among {known}"
            )

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, *_: Any) -> None:  # type: ignore[override]
        """Evaluate if an evaluation is due."""
        if self.interval.is_due(pl_module):
            self.evaluate(trainer, pl_module)

    def on_early_end(self, trainer: Trainer, pl_module: GAN) -> None:
        """Evaluate a run that `EarlyStopping` or the time ends early, but not one that a signal ends."""
        interrupted = any(one.received for one in trainer.callbacks if isinstance(one, Interruption))  # type: ignore
        if not interrupted and self.evaluated_images != pl_module.images_seen:
            self.evaluate(trainer, pl_module)

    @property
    def scalar_names(self) -> set[str]:
        """The names of the scalars that the metrics log."""
        return {
            f"metric/{name}{self.extractor.suffix if metric.uses_extractor else ''}"
            for metric in self.metric.values()
            for name in metric.better
        }

    def evaluate(self, trainer: Trainer, module: GAN) -> None:
        """Compute the metrics, log and write their values, and save the checkpoint if it is the best one."""
        self.evaluated_images = module.images_seen
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        fake = sample_count(self.fake, self.metric)
        how: Any = {"seed": module.seed, "with_baseline": False, "resamples": 0}
        evaluation = EvaluationData(module, data, self.extractor, fake, self.real, **how)
        try:
            with signals.interruptible():
                result = evaluate_metrics(self.metric, evaluation)
        except signals.Interrupted:
            log.warning("the evaluation is left out")
            return
        for name, reason in result.failures.items():
            log.warning("%s: %s", name, reason)
        scalars = {f"metric/{score.name}": score.value for score in result.scores}
        log_scalars(trainer, scalars)
        if trainer.is_global_zero:
            with self.ignore_full_disk(scores := self.folder / "scores"):
                write(result, scores, versions())
        by_name = {score.name: score for score in result.scores}
        names = (self.best, self.extractor.number_name(self.best or ""))
        best = next((by_name[name] for name in names if name in by_name), None)
        value = distributed.broadcast_scalar(best.value if best else nan, module.device)
        if best and not isnan(value):
            self._save_if_best(trainer, value, best.better == "lower")

    def _save_if_best(self, trainer: Trainer, value: float, lower_is_better: bool) -> None:
        if self.record is None or (value < self.record if lower_is_better else value > self.record):
            self.record = value  # before saving, so that the checkpoint contains it
            trainer.save_checkpoint(self.folder / BEST)

    def state_dict(self) -> dict[str, Any]:
        """Return the best value so far, for the checkpoint."""
        return {"record": self.record}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.record = state_dict["record"]

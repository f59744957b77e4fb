"""Measuring while training."""

import logging
from collections.abc import Mapping
from math import isnan, nan
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from oakleaf.callbacks.interval import Interval
from oakleaf.config.types import PositiveInt
from oakleaf.errors import UserError
from oakleaf.gan import GAN
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.extractors import Extractor
from oakleaf.metrics.metric import Metric
from oakleaf.metrics.scores import evaluate_metrics, sample_count, versions, write
from oakleaf.runtime import distributed
from oakleaf.runtime.loggers import log_scalars
from oakleaf.runtime.run_dir import BEST, IgnoreFullDisk

log = logging.getLogger(__name__)


class Evaluate(Callback):
    """Scores `fake` samples of the average of G against at most `real` real images, logs `score/<name>`, and saves
    `<folder>/checkpoints/best.ckpt` whenever the number called `best` is the best so far.

    `<folder>/scores/metrics.json` has each number's protocol. every: images between two; null: 10 times in the run.
    Processes share the work. Each turn draws its own random numbers anew, so scoring changes nothing of the training.
    """

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
        self.ignore_full_disk = IgnoreFullDisk()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        directions = {name: way for one in self.metric.values() for name, way in one.better.items()}
        if self.best is not None and not directions.get(self.best):
            known = ", ".join(sorted(name for name, way in directions.items() if way))
            raise UserError(f"callbacks.evaluate.best={self.best}: none of the numbers that are measured: {known}")

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, *_: Any) -> None:  # type: ignore[override]
        if self.interval.due(pl_module):
            self.take(trainer, pl_module)

    def take(self, trainer: Trainer, module: GAN) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        fake = sample_count(self.fake, self.metric)
        evaluation = EvaluationData(module, data, self.extractor, fake, self.real, seed=module.seed)
        findings = evaluate_metrics(self.metric, evaluation, with_baseline=False)
        for name, reason in findings.failures.items():
            log.warning("%s: %s", name, reason)
        log_scalars(
            trainer.loggers, {f"score/{score.name}": score.value for score in findings.scores}, module.images_seen
        )
        if trainer.is_global_zero:
            with self.ignore_full_disk(place := self.folder / "scores"):
                write(findings, place, versions())
        suffix = self.extractor.suffix
        found = {score.name: score for score in findings.scores}
        best = next((found[name] for name in (self.best, f"{self.best}{suffix}") if name in found), None)
        value = distributed.broadcast_scalar(best.value if best else nan, module.device)
        if best and not isnan(value):
            self._keep(trainer, value, best.better == "lower")

    def _keep(self, trainer: Trainer, value: float, lower: bool) -> None:
        if self.record is None or (value < self.record if lower else value > self.record):
            self.record = value  # before saving, so that it is in the file
            trainer.save_checkpoint(self.folder / BEST)

    def state_dict(self) -> dict[str, Any]:
        return {"record": self.record}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.record = state_dict["record"]

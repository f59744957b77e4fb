"""How the game goes: alarms, each with one line of advice."""

import logging
import math
from typing import Any

from lightning.pytorch import Callback, Trainer
from torch import Tensor

from oakleaf.callbacks.alarms import ADVICE, VANISHING, Alarm, discriminator_dominates, ema_lags, has_collapsed
from oakleaf.callbacks.interval import Interval
from oakleaf.callbacks.pixel_statistics import PixelStatistics, small
from oakleaf.config.types import Fraction, NonNegativeInt, PositiveFloat, PositiveInt
from oakleaf.games import Batch
from oakleaf.gan import GAN
from oakleaf.metrics.neighbours import shuffled
from oakleaf.runtime.loggers import log_scalars, send_alert
from oakleaf.sampling.latents import seeded_inputs

log = logging.getLogger(__name__)

DEAR = 40  # images seen for each one drawn, at least, where `every` is null: so looking costs about 2 % of the run
SOON = 10  # turns after which the same latents are drawn again
SMALLEST = 16  # values of an image; of fewer, as of points, neighbours are near by chance


class TrainingMonitor(Callback):
    """Raises an alarm in the log, on W&B, and as `alarm/<name>` = 1 (0 when it is well again), once each time. Numbers
    are logged as `health/<name>`; distances are shares of that between two real images (`PixelStatistics`).

    every: images between two looks at `count` samples of G and of its average, by fixed latents; null: 20 in the run,
    or as many as cost little. most: training images that they are held against, chosen by a fixed order.
    accuracy, paid, looks, run: discriminator_dominates, if both its accuracies are at least so, and what it pays and G's gradient are
    at most this share of the most that they were, at so many looks of `LogScalars` in a row and for that share of the run.
    fallen, alike: collapse, if diversity or coverage of G's own samples falls below this share of its best; or if after
    half of the run diversity is below `alike`. near, copied: memorisation, if more than this share of the samples are
    `near` times as far from a training image as that is from its nearest other one, or nearer. jump, calm: oscillation,
    if samples of G change by more within 10 turns, once `calm` images were seen, for in the beginning they may. apart:
    drift, if samples of the average are farther from G's, and G has not just gone there. patience: looks at samples in
    a row that make one of these four.

    Each turn draws its own random numbers anew, so looking changes nothing of the training. Only the first process
    looks.
    """

    def __init__(
        self,
        every: PositiveInt | None = None,
        count: PositiveInt = 128,
        max_real: PositiveInt = 2048,
        min_accuracy: Fraction = 0.99,
        max_loss_fraction: Fraction = 0.01,
        min_checks: PositiveInt = 5,
        min_fraction_of_run: Fraction = 0.03,
        collapse_fraction: Fraction = 0.33,
        min_diversity: Fraction = 0.05,
        copy_distance: PositiveFloat = 0.33,
        max_copied: Fraction = 0.3,
        max_change: PositiveFloat = 0.5,
        warmup_images: NonNegativeInt = 100_000,
        max_ema_distance: PositiveFloat = 0.6,
        patience: PositiveInt = 3,
    ) -> None:
        self.every, self.count, self.max_real = every, count, max_real
        self.min_accuracy, self.max_loss_fraction, self.min_fraction_of_run = (
            min_accuracy,
            max_loss_fraction,
            min_fraction_of_run,
        )
        self.collapse_fraction, self.min_diversity, self.copy_distance, self.max_copied, self.max_change, self.warmup_images, self.max_ema_distance = (
            collapse_fraction, min_diversity, copy_distance, max_copied, max_change, warmup_images, max_ema_distance,
        )  # fmt: skip
        self.interval = Interval(every, parts=20)
        self.alarms = {name: Alarm(min_checks if name == "discriminator_dominates" else patience) for name in ADVICE}
        self.best = dict.fromkeys((*VANISHING, "diversity", "coverage"), 0.0)  # the largest values so far
        self.request: Batch = {}
        self.statistics: PixelStatistics | None = None
        self.previous: Tensor | None = None  # G's last samples
        self.checked_images = self.checked_iteration = 0  # when: in images, in turns

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        request = seeded_inputs(
            pl_module.game, self.count, pl_module.seed
        )  # each turn seeds anew, so this changes no turn
        self.request = {name: values.to(pl_module.device) for name, values in request.items()}
        self.checked_images, self.checked_iteration, self.previous = pl_module.images_seen, 0, None

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, *_: Any) -> None:  # type: ignore[override]
        if not trainer.is_global_zero:
            return
        if pl_module.iteration % pl_module.log_every == 0:
            self.check_discriminator(trainer, pl_module)
        if self.interval.due(pl_module) and (
            self.every or pl_module.images_seen - self.checked_images >= DEAR * self.count
        ):
            self.check_samples(trainer, pl_module)
        elif (
            self.previous is not None
            and pl_module.iteration == self.checked_iteration + SOON
            and "discriminator" in pl_module.players
        ):
            self.check_sample_change(trainer, pl_module)  # players chase each other; one alone has nobody to

    def check_discriminator(self, trainer: Trainer, module: GAN) -> None:
        """D, by the last look of `LogScalars`."""
        seen = module.last_scalars
        for name in VANISHING:
            self.best[name] = max(self.best[name], seen.get(name, 0.0))
        bad = discriminator_dominates(seen, self.best, self.min_accuracy, self.max_loss_fraction)
        patience = math.ceil(
            self.min_fraction_of_run * (module.total_images or 0) / (module.log_every * module.global_batch_size)
        )
        paid, gradient = (seen.get(name, 0.0) for name in VANISHING)
        words = f"it tells all images apart and pays {paid:.2g}; G's gradient is {gradient:.2g}"
        self._raise_or_clear(trainer, module, "discriminator_dominates", bad, words, patience)

    def check_samples(self, trainer: Trainer, module: GAN) -> None:
        """Samples of G and of its average."""
        statistics, live = self._pixel_statistics(trainer), self._samples(trainer, module, ema=False)
        drawn = self._samples(trainer, module) if module.generator_ema else live
        scalars = {"health/diversity": statistics.diversity(live), "health/coverage": statistics.coverage(live)}
        if "latent" in self.request:  # a translator draws what its input says
            self._collapse(trainer, module, scalars)
            if not self._repeats_training_rows(module) and drawn.shape[1] >= SMALLEST:
                copied = scalars["health/copied"] = statistics.copied(drawn, self.copy_distance)
                words = f"{copied:.0%} of the samples are nearly copies of training images"
                self._raise_or_clear(trainer, module, "memorisation", copied > self.max_copied, words)
        if module.generator_ema and self.previous is not None:
            apart, moved = statistics.distance(drawn, live), statistics.distance(self.previous, live)
            scalars["health/ema_lag"] = apart
            words = f"G's average draws other images than G, {apart:.2f} of the distance between real ones away"
            self._raise_or_clear(trainer, module, "ema_lag", ema_lags(apart, moved, self.max_ema_distance), words)
        self.previous, self.checked_images, self.checked_iteration = live, module.images_seen, module.iteration
        log_scalars(trainer.loggers, scalars, module.images_seen)

    def check_sample_change(self, trainer: Trainer, module: GAN) -> None:
        """The same samples a few turns later."""
        assert self.previous is not None
        jumped = self._pixel_statistics(trainer).distance(self.previous, self._samples(trainer, module, ema=False))
        bad = jumped > self.max_change and module.images_seen >= self.warmup_images
        words = f"G's samples change within {SOON} turns by {jumped:.2f} of the distance between real images"
        self._raise_or_clear(trainer, module, "oscillation", bad, words)
        log_scalars(trainer.loggers, {"health/sample_change": jumped}, module.images_seen)

    def _collapse(self, trainer: Trainer, module: GAN, scalars: dict[str, float]) -> None:
        bad = scalars["health/diversity"] < self.min_diversity and 2 * module.images_seen > (
            module.total_images or math.inf
        )
        for name in ("diversity", "coverage"):
            value = scalars[f"health/{name}"]
            self.best[name] = max(self.best[name], value)
            # before that all samples are alike because nothing is learned yet, and counts are small
            bad |= self.best[name] > 0.2 and has_collapsed(value, self.best[name], self.collapse_fraction)
        diversity, coverage = scalars["health/diversity"], scalars["health/coverage"]
        words = f"samples have {diversity:.0%} of real images' diversity and meet {coverage:.0%} of them"
        self._raise_or_clear(trainer, module, "collapse", bad, words)

    def _raise_or_clear(
        self, trainer: Trainer, module: GAN, name: str, bad: bool, words: str, patience: int = 0
    ) -> None:
        alarm = self.alarms[name]
        was = alarm.raised
        if alarm.update(bad, patience):
            log.warning("%s: %s; try: %s", name, words, ADVICE[name])
            send_alert(trainer.loggers, name, f"{words}; try: {ADVICE[name]}")
        if alarm.raised != was:
            log_scalars(trainer.loggers, {f"alarm/{name}": float(alarm.raised)}, module.images_seen)

    def _pixel_statistics(self, trainer: Trainer) -> PixelStatistics:
        if self.statistics is None:
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            rows = data.rows["image"]
            self.statistics = PixelStatistics(rows[shuffled(len(rows), self.max_real)], data.mirrors)
        return self.statistics

    def _samples(self, trainer: Trainer, module: GAN, ema: bool = True) -> Tensor:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        return small(data.stored(module.sample(self.request, ema)))

    @staticmethod
    def _repeats_training_rows(module: GAN) -> bool:
        """Whether it is told what is known of certain training images, which it then should draw."""
        return hasattr(module.game.condition, "remembered")

    def state_dict(self) -> dict[str, Any]:
        return {"best": dict(self.best), "alarms": {name: [a.raised, a.row] for name, a in self.alarms.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best.update(state_dict["best"])
        for name, (raised, row) in state_dict["alarms"].items():
            self.alarms[name].raised, self.alarms[name].row = raised, row

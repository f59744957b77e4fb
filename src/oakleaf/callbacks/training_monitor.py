"""Checking the training for the typical failures of GANs, and raising alarms."""

import logging
import math
from dataclasses import dataclass
from typing import Any, ClassVar

from lightning.pytorch import Callback, Trainer
from torch import Tensor

from oakleaf.callbacks.alarms import ADVICE, Alarm
from oakleaf.callbacks.interval import Interval
from oakleaf.callbacks.pixel_statistics import PixelStatistics, small
from oakleaf.config.types import Fraction, NonNegativeInt, PositiveFloat, PositiveInt
from oakleaf.games import Batch
from oakleaf.gan import GAN
from oakleaf.metrics.neighbours import shuffled
from oakleaf.runtime.loggers import log_scalars, send_alert
from oakleaf.sampling.latents import seeded_inputs

log = logging.getLogger(__name__)

HEALTH = ("health/diversity", "health/coverage", "health/copied", "health/ema_lag", "health/sample_change")
LOSS, GRADIENT_NORM = "loss/discriminator/adversarial", "gradient_norm/generator"
MIN_IMAGES_PER_SAMPLE = 40  # images seen for each sample drawn, if `every` is null: checks cost about 2 % of the run
CHANGE_ITERATIONS = 10  # iterations after which the same latents are drawn again
MIN_VALUES = 16  # per image; with fewer, as for points in the plane, samples are close to training data by chance
COLLAPSE_WARMUP = 0.1  # fraction of the run during which diversity and coverage may be those of an untrained generator
MIN_BEST = 0.2  # diversity and coverage up to this are of an untrained generator, and a fall from there says nothing


@dataclass(eq=False)
class TrainingMonitor(Callback):
    """Check scalars and samples for failures, log the results, and raise an alarm with advice for each failure.

    An alarm is raised once, as a warning in the log, an alert on W&B and the scalar `alarm/<name>` = 1; the scalar
    returns to 0 when the alarm is cleared. The numbers behind the alarms are logged as `health/<name>`; distances are
    relative to the mean distance of two real images (`PixelStatistics`).

    Every iteration seeds its own random numbers (`GAN`), so the checks do not change the training. If there are several
    processes, only the first one checks.

    Args:
        every: images between two checks of samples; null: 20 checks in the run, fewer in a short run, where 20 would
            cost too much.
        count: samples per check, drawn from fixed latents by the generator and by the EMA generator.
        max_real: training images that samples are compared with, in a fixed random order.
        min_accuracy: `discriminator_dominates`, if the discriminator's accuracy is at least this on real and on fake
            images,
        max_loss_fraction: and its adversarial loss and the generator's gradient norm are at most this fraction of their
            largest values,
        min_checks: in so many logging steps in a row,
        min_fraction_of_run: and for this fraction of the run.
        collapse_fraction: `collapse`, if the diversity or the coverage of the generator's samples is below this
            fraction of its best value (values above 1, that of real images, count as 1),
        min_diversity: or if the diversity is below this,
        min_coverage: or the coverage is below this, compared with real images (1), whatever the run had before;
        collapse_warmup_images: both only after so many images and a tenth of the run, because an untrained generator
            has similar values.
        copy_distance: `memorisation`: a sample is a copy if its distance to the nearest training image is at most this
            fraction of that image's distance to its own nearest other one.
        max_copied: The alarm is raised if more than this share of the samples are copies.
        max_change: `oscillation`, if the generator's samples of the same latents change by more than this distance
            within 10 iterations,
        warmup_images: after so many images were seen; before that, large changes are normal.
        max_ema_distance: `ema_lag`, if the distance between samples of the generator and of the EMA generator is larger
            than this, and larger than 1.5 times the generator's own change since the previous check.
        patience: checks of samples in a row that raise one of the last four alarms.
    """

    needs_gan: ClassVar[bool] = True
    scalar_names: ClassVar[tuple[str, ...]] = (*HEALTH, *(f"alarm/{name}" for name in ADVICE))

    every: PositiveInt | None = None
    count: PositiveInt = 128
    max_real: PositiveInt = 2048
    min_accuracy: Fraction = 0.99
    max_loss_fraction: Fraction = 0.01
    min_checks: PositiveInt = 5
    min_fraction_of_run: Fraction = 0.03
    collapse_fraction: Fraction = 0.33
    min_diversity: Fraction = 0.05
    min_coverage: Fraction = 0.06
    collapse_warmup_images: NonNegativeInt = 20_000
    copy_distance: PositiveFloat = 0.33
    max_copied: Fraction = 0.3
    max_change: PositiveFloat = 0.5
    warmup_images: NonNegativeInt = 100_000
    max_ema_distance: PositiveFloat = 0.6
    patience: PositiveInt = 3

    def __post_init__(self) -> None:
        self.interval = Interval(self.every, parts=20, limited=True)
        self.alarms = {name: Alarm(self.patience) for name in ADVICE}
        self.alarms["discriminator_dominates"].patience = self.min_checks
        self.largest = dict.fromkeys((LOSS, GRADIENT_NORM, "diversity", "coverage"), 0.0)  # values so far
        self.inputs: Batch = {}
        self.statistics: PixelStatistics | None = None
        self.previous: Tensor | None = None  # the generator's samples at the previous check
        self.checked_images = self.checked_iteration = 0  # when that check was

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Draw the fixed latents."""
        if trainer.is_global_zero:
            inputs = seeded_inputs(pl_module.game, self.count, pl_module.seed)
            self.inputs = {name: values.to(pl_module.device) for name, values in inputs.items()}
            self.checked_images, self.checked_iteration, self.previous = pl_module.images_seen, 0, None

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, *_: Any) -> None:  # type: ignore[override]
        """Run the checks that are due after this iteration."""
        if not trainer.is_global_zero:
            return
        if pl_module.iteration % pl_module.log_every == 0:
            self.check_discriminator(trainer, pl_module)
        affordable = pl_module.images_seen - self.checked_images >= MIN_IMAGES_PER_SAMPLE * self.count
        if self.interval.is_due(pl_module) and (self.every or affordable):
            with self.interval.timed():
                self.check_samples(trainer, pl_module)
        elif (
            self.previous is not None
            and pl_module.iteration == self.checked_iteration + CHANGE_ITERATIONS
            and "discriminator" in pl_module.players  # a generator without an opponent does not oscillate
        ):
            self.check_sample_change(trainer, pl_module)

    def check_discriminator(self, trainer: Trainer, module: GAN) -> None:
        """Check by the scalars of the last logging step whether the discriminator dominates.

        A loss without a lower bound of 0 (Wasserstein) never raises this alarm, and neither does a loss that does not
        saturate (hinge), because there the generator's gradient does not vanish and the generator continues to learn.
        """
        scalars = module.last_scalars
        loss, gradient = (scalars.get(name, math.nan) for name in (LOSS, GRADIENT_NORM))
        bad = all(scalars.get(f"accuracy/{side}", 0.0) >= self.min_accuracy for side in ("real", "fake"))
        for name in (LOSS, GRADIENT_NORM):
            value = scalars.get(name, math.nan)
            if math.isfinite(value):  # a skipped step logs NaN or infinity, which must not stay the largest value
                self.largest[name] = max(self.largest[name], value)
            bad &= 0 <= value <= self.max_loss_fraction * self.largest[name]
        images = self.min_fraction_of_run * (module.total_images or 0)
        patience = math.ceil(images / (module.log_every * module.global_batch_size))
        message = f"it classifies all images correctly (loss {loss:.2g}), and G's gradient norm is {gradient:.2g}"
        self._update_alarm(trainer, module, "discriminator_dominates", bad, message, patience)

    def check_samples(self, trainer: Trainer, module: GAN) -> None:
        """Check samples of the generator and of the EMA generator for collapse, memorisation and a lagging EMA."""
        statistics, live = self._pixel_statistics(trainer), self._samples(trainer, module, ema=False)
        averaged = self._samples(trainer, module) if module.generator_ema else live
        scalars = {"health/diversity": statistics.diversity(live), "health/coverage": statistics.coverage(live)}
        if "latent" in self.inputs:  # the output of a translator follows its input, be it diverse or not
            self._check_collapse(trainer, module, scalars["health/diversity"], scalars["health/coverage"])
            # a generator that is conditioned on rows of single training images is expected to reproduce them
            if not hasattr(module.game.condition, "stored_rows") and averaged.shape[1] >= MIN_VALUES:
                copied = scalars["health/copied"] = statistics.copied(averaged, self.copy_distance)
                message = f"{copied:.0%} of the samples are nearly copies of training images"
                self._update_alarm(trainer, module, "memorisation", copied > self.max_copied, message)
        if module.generator_ema and self.previous is not None:
            lag = scalars["health/ema_lag"] = statistics.distance(averaged, live)
            bad = lag > self.max_ema_distance and lag > 1.5 * statistics.distance(self.previous, live)
            message = f"samples of the EMA generator and of G differ by {lag:.2f} of the distance between real images"
            self._update_alarm(trainer, module, "ema_lag", bad, message)
        self.previous, self.checked_images, self.checked_iteration = live, module.images_seen, module.iteration
        log_scalars(trainer, scalars)

    def check_sample_change(self, trainer: Trainer, module: GAN) -> None:
        """Check for oscillation: draw the samples of the last check again, a few iterations later."""
        assert self.previous is not None
        change = self._pixel_statistics(trainer).distance(self.previous, self._samples(trainer, module, ema=False))
        bad = change > self.max_change and module.images_seen >= self.warmup_images
        within = f"within {CHANGE_ITERATIONS} iterations"
        message = f"G's samples change {within} by {change:.2f} of the distance between real images"
        self._update_alarm(trainer, module, "oscillation", bad, message)
        log_scalars(trainer, {"health/sample_change": change})

    def _check_collapse(self, trainer: Trainer, module: GAN, diversity: float, coverage: float) -> None:
        warmup = max(self.collapse_warmup_images, COLLAPSE_WARMUP * (module.total_images or 0))
        bad = module.images_seen >= warmup and (diversity < self.min_diversity or coverage < self.min_coverage)
        for name, value in (("diversity", diversity), ("coverage", coverage)):
            best = self.largest[name] = max(self.largest[name], value)
            bad |= best > MIN_BEST and value < self.collapse_fraction * min(best, 1.0)
        message = f"samples have {diversity:.0%} of the real images' diversity and cover {coverage:.0%} of them"
        self._update_alarm(trainer, module, "collapse", bad, message)

    def _update_alarm(
        self, trainer: Trainer, module: GAN, name: str, bad: bool, message: str, patience: int = 0
    ) -> None:
        alarm = self.alarms[name]
        raised_before = alarm.raised
        if alarm.update(bad, patience):
            log.warning("%s: %s; try: %s", name, message, ADVICE[name])
            send_alert(trainer.loggers, name, f"{message}; try: {ADVICE[name]}")
        if alarm.raised != raised_before:
            log_scalars(trainer, {f"alarm/{name}": float(alarm.raised)})

    def _pixel_statistics(self, trainer: Trainer) -> PixelStatistics:
        if self.statistics is None:
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            self.statistics = PixelStatistics(data.images(shuffled(data.count, self.max_real)), data.mirrors)
        return self.statistics

    def _samples(self, trainer: Trainer, module: GAN, ema: bool = True) -> Tensor:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        return small(data.stored(module.sample(self.inputs, ema)))

    def state_dict(self) -> dict[str, Any]:
        """Return the largest values and the state of each alarm, for the checkpoint."""
        return {
            "largest": dict(self.largest),
            "alarms": {name: [a.raised, a.streak] for name, a in self.alarms.items()},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, so that a resumed run does not repeat its alarms."""
        self.largest.update(state_dict["largest"])
        for name, (raised, streak) in state_dict["alarms"].items():
            self.alarms[name].raised, self.alarms[name].streak = raised, streak

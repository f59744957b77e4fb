"""How the game goes: alarms, each with one line of advice."""

import logging
import math
from typing import Any

from lightning.pytorch import Callback, Trainer
from torch import Tensor

from oakleaf.callbacks.alarms import ADVICE, GONE, Alarm, fallen, left_behind, won
from oakleaf.callbacks.interval import Interval
from oakleaf.callbacks.pixel_statistics import Glimpse, small
from oakleaf.config.types import Count, Natural, Positive, Share
from oakleaf.games import Batch
from oakleaf.gan import GAN
from oakleaf.metrics.neighbours import shuffled
from oakleaf.runtime.loggers import alert, tell
from oakleaf.sampling.latents import draw

log = logging.getLogger(__name__)

DEAR = 40  # images seen for each one drawn, at least, where `every` is null: so looking costs about 2 % of the run
SOON = 10  # turns after which the same latents are drawn again
SMALLEST = 16  # values of an image; of fewer, as of points, neighbours are near by chance


class Health(Callback):
    """Raises an alarm in the log, on W&B, and as `alarm/<name>` = 1 (0 when it is well again), once each time. Numbers
    are logged as `health/<name>`; distances are shares of that between two real images (`Glimpse`).

    every: images between two looks at `count` samples of G and of its average, by fixed latents; null: 20 in the run,
    or as many as cost little. most: training images that they are held against, chosen by a fixed order.
    accuracy, paid, looks, run: D has won, if both its accuracies are at least so, and what it pays and G's gradient are
    at most this share of the most that they were, at so many looks of `Watch` in a row and for that share of the run.
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
        every: Count | None = None,
        count: Count = 128,
        most: Count = 2048,
        accuracy: Share = 0.99,
        paid: Share = 0.01,
        looks: Count = 5,
        run: Share = 0.03,
        fallen: Share = 0.33,
        alike: Share = 0.05,
        near: Positive = 0.33,
        copied: Share = 0.3,
        jump: Positive = 0.5,
        calm: Natural = 100_000,
        apart: Positive = 0.6,
        patience: Count = 3,
    ) -> None:
        self.every, self.count, self.most = every, count, most
        self.accuracy, self.paid, self.run = accuracy, paid, run
        self.fallen, self.alike, self.near, self.copied, self.jump, self.calm, self.apart = (
            fallen, alike, near, copied, jump, calm, apart,
        )  # fmt: skip
        self.interval = Interval(every, parts=20)
        self.alarms = {name: Alarm(looks if name == "D has won" else patience) for name in ADVICE}
        self.best = dict.fromkeys((*GONE, "diversity", "coverage"), 0.0)  # the largest values so far
        self.request: Batch = {}
        self.glimpse: Glimpse | None = None
        self.before: Tensor | None = None  # G's last samples
        self.drawn = self.turn = 0  # when: in images, in turns

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        request = draw(pl_module.game, self.count, pl_module.seed)  # each turn seeds anew, so this changes no turn
        self.request = {name: values.to(pl_module.device) for name, values in request.items()}
        self.drawn, self.turn, self.before = pl_module.images, 0, None

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, *_: Any) -> None:  # type: ignore[override]
        if not trainer.is_global_zero:
            return
        if pl_module.turn % pl_module.watch_every == 0:
            self.judge(trainer, pl_module)
        if self.interval.due(pl_module) and (self.every or pl_module.images - self.drawn >= DEAR * self.count):
            self.draw(trainer, pl_module)
        elif self.before is not None and pl_module.turn == self.turn + SOON and "discriminator" in pl_module.players:
            self.again(trainer, pl_module)  # players chase each other; one alone has nobody to

    def judge(self, trainer: Trainer, module: GAN) -> None:
        """D, by the last look of `Watch`."""
        seen = module.latest
        for name in GONE:
            self.best[name] = max(self.best[name], seen.get(name, 0.0))
        bad = won(seen, self.best, self.accuracy, self.paid)
        patience = math.ceil(self.run * (module.total or 0) / (module.watch_every * module.step))
        paid, gradient = (seen.get(name, 0.0) for name in GONE)
        words = f"it tells all images apart and pays {paid:.2g}; G's gradient is {gradient:.2g}"
        self._look(trainer, module, "D has won", bad, words, patience)

    def draw(self, trainer: Trainer, module: GAN) -> None:
        """Samples of G and of its average."""
        glimpse, raw = self._held(trainer), self._samples(trainer, module, average=False)
        drawn = self._samples(trainer, module) if module.average else raw
        scalars = {"health/diversity": glimpse.diversity(raw), "health/coverage": glimpse.coverage(raw)}
        if "latent" in self.request:  # a translator draws what its input says
            self._collapse(trainer, module, scalars)
            if not self._told_rows(module) and drawn.shape[1] >= SMALLEST:
                copied = scalars["health/copied"] = glimpse.copied(drawn, self.near)
                words = f"{copied:.0%} of the samples are nearly copies of training images"
                self._look(trainer, module, "memorisation", copied > self.copied, words)
        if module.average and self.before is not None:
            apart, moved = glimpse.apart(drawn, raw), glimpse.apart(self.before, raw)
            scalars["health/drift"] = apart
            words = f"G's average draws other images than G, {apart:.2f} of the distance between real ones away"
            self._look(trainer, module, "drift", left_behind(apart, moved, self.apart), words)
        self.before, self.drawn, self.turn = raw, module.images, module.turn
        tell(trainer.loggers, scalars, module.images)

    def again(self, trainer: Trainer, module: GAN) -> None:
        """The same samples a few turns later."""
        assert self.before is not None
        jumped = self._held(trainer).apart(self.before, self._samples(trainer, module, average=False))
        bad = jumped > self.jump and module.images >= self.calm
        words = f"G's samples change within {SOON} turns by {jumped:.2f} of the distance between real images"
        self._look(trainer, module, "oscillation", bad, words)
        tell(trainer.loggers, {"health/jump": jumped}, module.images)

    def _collapse(self, trainer: Trainer, module: GAN, scalars: dict[str, float]) -> None:
        bad = scalars["health/diversity"] < self.alike and 2 * module.images > (module.total or math.inf)
        for name in ("diversity", "coverage"):
            value = scalars[f"health/{name}"]
            self.best[name] = max(self.best[name], value)
            # before that all samples are alike because nothing is learned yet, and counts are small
            bad |= self.best[name] > 0.2 and fallen(value, self.best[name], self.fallen)
        diversity, coverage = scalars["health/diversity"], scalars["health/coverage"]
        words = f"samples have {diversity:.0%} of real images' diversity and meet {coverage:.0%} of them"
        self._look(trainer, module, "collapse", bad, words)

    def _look(self, trainer: Trainer, module: GAN, name: str, bad: bool, words: str, patience: int = 0) -> None:
        alarm = self.alarms[name]
        was = alarm.raised
        if alarm.look(bad, patience):
            log.warning("%s: %s; try: %s", name, words, ADVICE[name])
            alert(trainer.loggers, name, f"{words}; try: {ADVICE[name]}")
        if alarm.raised != was:
            tell(trainer.loggers, {f"alarm/{name}": float(alarm.raised)}, module.images)

    def _held(self, trainer: Trainer) -> Glimpse:
        if self.glimpse is None:
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            rows = data.rows["image"]
            self.glimpse = Glimpse(rows[shuffled(len(rows), self.most)], data.mirrors)
        return self.glimpse

    def _samples(self, trainer: Trainer, module: GAN, average: bool = True) -> Tensor:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        return small(data.stored(module.draw(self.request, average)))

    @staticmethod
    def _told_rows(module: GAN) -> bool:
        """Whether it is told what is known of certain training images, which it then should draw."""
        return hasattr(module.game.condition, "known")

    def state_dict(self) -> dict[str, Any]:
        return {"best": dict(self.best), "alarms": {name: [a.raised, a.row] for name, a in self.alarms.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best.update(state_dict["best"])
        for name, (raised, row) in state_dict["alarms"].items():
            self.alarms[name].raised, self.alarms[name].row = raised, row

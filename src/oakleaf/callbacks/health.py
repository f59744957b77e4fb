"""How the game goes: alarms."""

import logging
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from oakleaf.callbacks.glimpse import Glimpse, small
from oakleaf.callbacks.interval import Interval
from oakleaf.games import Batch
from oakleaf.gan import GAN
from oakleaf.metrics.neighbours import shuffled
from oakleaf.numbers import Count
from oakleaf.seeds import stream

log = logging.getLogger(__name__)


class Health(Callback):
    def __init__(self, every: Count | None = None, count: Count = 128, most: Count = 2048) -> None:
        self.every, self.count, self.most = every, count, most
        self.interval = Interval(every, parts=20)
        self.request: Batch = {}
        self.glimpse: Glimpse | None = None
        self.before: Tensor | None = None
        self.drawn = 0
        self.history: list[dict[str, float]] = []

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        torch.manual_seed(stream(pl_module.seed, "health"))  # each turn seeds anew, so this changes no turn
        request = pl_module.game.request(self.count)
        self.request = {name: values.to(pl_module.device) for name, values in request.items()}

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, *_: Any) -> None:  # type: ignore[override]
        if not trainer.is_global_zero:
            return
        if self.interval.due(pl_module) and pl_module.images - self.drawn >= 40 * self.count:
            self.drawn = pl_module.images
            self.draw(trainer, pl_module)

    def draw(self, trainer: Trainer, module: GAN) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if self.glimpse is None:
            rows = data.rows["image"]
            self.glimpse = Glimpse(rows[shuffled(len(rows), self.most)])
        raw = small(data.stored(module.draw(self.request, average=False)))
        ema = small(data.stored(module.draw(self.request)))
        scalars = {}
        for name, x in (("ema", ema), ("raw", raw)):
            scalars |= {f"div_{name}": self.glimpse.diversity(x), f"cov_{name}": self.glimpse.coverage(x),
              f"copied3_{name}": self.glimpse.copied(x, 1 / 3), f"copied2_{name}": self.glimpse.copied(x, 1 / 2)}
        scalars["drift"] = self.glimpse.apart(ema, raw)
        if self.before is not None:
            scalars["moved"] = self.glimpse.apart(self.before[0], raw)
            scalars["moved_ema"] = self.glimpse.apart(self.before[1], ema)
        self.before = raw, ema
        self.history.append({"images": module.images, **scalars})

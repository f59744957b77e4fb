"""The same latents through the whole run: a sheet now and then, and a film at the end."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from PIL import Image
from torch import Tensor

from oakleaf.callbacks.interval import Interval
from oakleaf.config.types import Count
from oakleaf.games import Batch, Game
from oakleaf.gan import GAN
from oakleaf.image_grid import abreast, film, picture
from oakleaf.runtime.loggers import show
from oakleaf.runtime.run_dir import Spared, whole
from oakleaf.sampling.latents import draw


class Samples(Callback):
    """Draws what `sample.py` draws by the run's seed, the same latents all along, by the average of G where there is
    one, into `<folder>/<images seen>.png` and to the loggers, and joins the sheets to `<folder>/film.gif`. Those for
    which there is no room are left out; it is said once, and the run goes on.

    every: images between two sheets; null: 40 of them in the run.
    """

    def __init__(self, folder: str, every: Count | None = None, count: Count = 64) -> None:
        self.folder, self.count = Path(folder), count
        self.interval = Interval(every, parts=40)
        self.request: Batch = {}
        self.drawn = -1
        self.spared = Spared()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        request = draw(pl_module.game, self.count, pl_module.seed)  # each turn seeds anew, so this changes no turn
        self.request = {name: values.to(pl_module.device) for name, values in request.items()}
        self.drawn = pl_module.images if pl_module.images else -1
        if not trainer.is_global_zero:
            return
        for sheet_later in self.folder.glob("[0-9]*.png"):  # of a course that this run goes back behind
            if int(sheet_later.stem) > pl_module.images:
                sheet_later.unlink()
        if pl_module.images == 0:
            self.draw(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, *_: Any) -> None:  # type: ignore[override]
        if self.interval.due(pl_module):
            self.draw(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        self.draw(trainer, pl_module)
        frames = sorted(self.folder.glob("[0-9]*.png"))
        if frames and self._write(self.folder / "film.gif", lambda part: film(frames, part)):
            show(trainer.loggers, "film", self.folder / "film.gif", pl_module.images)

    def draw(self, trainer: Trainer, module: GAN) -> None:
        if not trainer.is_global_zero or self.drawn == module.images:
            return
        self.drawn = module.images
        path = self.folder / f"{module.images:012d}.png"
        if self._write(path, sheet(module.game, self.request, module.draw(self.request)).save):
            show(trainer.loggers, "samples", path, module.images)

    def _write(self, path: Path, save: Callable[[Path], None]) -> bool:
        """Whether it is there."""
        with self.spared(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            with whole(path) as part:
                save(part)
            return True
        return False


def sheet(game: Game, asked: Batch, images: Tensor) -> Image.Image:
    """The images, each beside what it was made from if that can be shown; a column for each class, if they are few."""
    told = game.condition.shown(asked) if game.condition else None
    if told is not None:
        return picture(abreast(told, images), 2 * math.ceil(math.sqrt(len(images) / 2)))
    classes = game.condition.classes if game.condition else 1
    return picture(images, classes if 1 < classes <= math.sqrt(2 * len(images)) else None)

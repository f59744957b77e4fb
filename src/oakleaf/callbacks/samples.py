"""The same latents through the whole run: a sheet now and then, and a film at the end."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from PIL import Image
from torch import Tensor

from oakleaf.callbacks.interval import Interval
from oakleaf.config.types import PositiveInt
from oakleaf.games import Batch, Game
from oakleaf.gan import GAN
from oakleaf.image_grid import interleave, render, save_gif
from oakleaf.runtime.loggers import log_image
from oakleaf.runtime.run_dir import IgnoreFullDisk, atomic_write
from oakleaf.sampling.latents import seeded_inputs


class Samples(Callback):
    """Draws what `sample.py` draws by the run's seed, the same latents all along, by the average of G where there is
    one, into `<folder>/<images seen>.png` and to the loggers, and joins the sheets to `<folder>/film.gif`. Those for
    which there is no room are left out; it is said once, and the run goes on.

    every: images between two sheets; null: 40 of them in the run.
    """

    def __init__(self, folder: str, every: PositiveInt | None = None, count: PositiveInt = 64) -> None:
        self.folder, self.count = Path(folder), count
        self.interval = Interval(every, parts=40)
        self.request: Batch = {}
        self.written = -1
        self.ignore_full_disk = IgnoreFullDisk()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        request = seeded_inputs(
            pl_module.game, self.count, pl_module.seed
        )  # each turn seeds anew, so this changes no turn
        self.request = {name: values.to(pl_module.device) for name, values in request.items()}
        self.written = pl_module.images_seen if pl_module.images_seen else -1
        if not trainer.is_global_zero:
            return
        for sheet_later in self.folder.glob("[0-9]*.png"):  # of a course that this run goes back behind
            if int(sheet_later.stem) > pl_module.images_seen:
                sheet_later.unlink()
        if pl_module.images_seen == 0:
            self.write_grid(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, *_: Any) -> None:  # type: ignore[override]
        if self.interval.due(pl_module):
            self.write_grid(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        self.write_grid(trainer, pl_module)
        frames = sorted(self.folder.glob("[0-9]*.png"))
        if frames and self._write(self.folder / "film.gif", lambda part: save_gif(frames, part)):
            log_image(trainer.loggers, "film", self.folder / "film.gif", pl_module.images_seen)

    def write_grid(self, trainer: Trainer, module: GAN) -> None:
        if not trainer.is_global_zero or self.written == module.images_seen:
            return
        self.written = module.images_seen
        path = self.folder / f"{module.images_seen:012d}.png"
        if self._write(path, sample_grid(module.game, self.request, module.sample(self.request)).save):
            log_image(trainer.loggers, "samples", path, module.images_seen)

    def _write(self, path: Path, save: Callable[[Path], None]) -> bool:
        """Whether it is there."""
        with self.ignore_full_disk(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as part:
                save(part)
            return True
        return False


def sample_grid(game: Game, asked: Batch, images: Tensor) -> Image.Image:
    """The images, each beside what it was made from if that can be shown; a column for each class, if they are few."""
    told = game.condition.preview(asked) if game.condition else None
    if told is not None:
        return render(interleave(told, images), 2 * math.ceil(math.sqrt(len(images) / 2)))
    classes = game.condition.classes if game.condition else 1
    return render(images, classes if 1 < classes <= math.sqrt(2 * len(images)) else None)

"""Sample grids of the same latents during the run, and an animation of them at its end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from PIL import Image

from oakleaf.callbacks.interval import Interval
from oakleaf.config.types import PositiveInt
from oakleaf.figures.animation import save_gif
from oakleaf.games import Batch
from oakleaf.gan import GAN
from oakleaf.image_grid import interleave, to_bytes
from oakleaf.runtime.loggers import log_image, log_table
from oakleaf.runtime.run_dir import IgnoreFullDisk, atomic_write
from oakleaf.sampling.figure import condition_labels, draw_samples, images_seen, sample_panel, sample_title
from oakleaf.sampling.latents import seeded_inputs

ANIMATION = "animation.gif"


class Samples(Callback):
    """Write sample grids of the EMA generator during the run, and join them to an animation at its end.

    The latents are those that `sample.py` draws for the run's seed, and they stay the same in all grids. The generator
    itself draws if the run keeps no EMA. Grids are written to `<folder>/<images seen>.png`, the animation to
    `<folder>/animation.gif`, and both are sent to the loggers. If the disk is full, they are left out; this is reported
    once, and the training continues.

    Args:
        folder: where the images are written.
        every: images seen between two grids; null: 40 grids in the run, fewer in one that is short (`Interval`).
        count: samples in a grid.
        captions: whether a grid has a title with the number of images seen, and headings; without them it is plain.
    """

    needs_gan = True

    def __init__(
        self, folder: str, every: PositiveInt | None = None, count: PositiveInt = 64, captions: bool = True
    ) -> None:
        self.folder, self.count, self.captions = Path(folder), count, captions
        self.interval = Interval(every, parts=40, limited=True)
        self.inputs: Batch = {}
        self.last_written = -1  # images seen at the last grid
        self.ignore_full_disk = IgnoreFullDisk()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Draw the fixed latents, remove later grids of a run that was rolled back, and write the first grid."""
        # every iteration seeds its own random numbers, so drawing here does not change the training
        inputs = seeded_inputs(pl_module.game, self.count, pl_module.seed)
        self.inputs = {name: values.to(pl_module.device) for name, values in inputs.items()}
        self.last_written = pl_module.images_seen if pl_module.images_seen else -1
        if not trainer.is_global_zero:
            return
        for file in self.folder.glob("[0-9]*.png"):
            if int(file.stem) > pl_module.images_seen:
                file.unlink()
        if pl_module.images_seen == 0:
            self.write_grid(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, *_: Any) -> None:  # type: ignore[override]
        """Write a grid if one is due."""
        if self.interval.is_due(pl_module):
            self.write_grid(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write the last grid and the animation."""
        if not trainer.is_global_zero:
            return
        self.write_grid(trainer, pl_module)
        frames, animation = sorted(self.folder.glob("[0-9]*.png")), self.folder / ANIMATION
        if frames and self._write(animation, lambda part: save_gif(frames, part)):
            log_image(trainer.loggers, "animation", animation, pl_module.images_seen)
        self._log_table(trainer, pl_module)

    def _log_table(self, trainer: Trainer, module: GAN) -> None:
        """Log the samples with the class or text of each, where the generator has such a condition."""
        labels = condition_labels(module, self.inputs, drawn=False)
        if not labels:
            return
        pixels = to_bytes(module.sample(self.inputs)).permute(0, 2, 3, 1)
        if pixels.shape[3] in (1, 3):
            pictures = [image.squeeze(2).numpy() for image in pixels]
            log_table(trainer.loggers, "samples_by_condition", labels, pictures, module.images_seen)

    def write_grid(self, trainer: Trainer, module: GAN) -> None:
        """Draw the samples and write their grid, unless it was written already."""
        if not trainer.is_global_zero or self.last_written == module.images_seen:
            return
        self.last_written = module.images_seen
        path = self.folder / f"{module.images_seen:012d}.png"
        with self.interval.timed():
            if self._write(path, self.draw(trainer, module).save):
                log_image(trainer.loggers, "samples", path, module.images_seen)

    def _write(self, path: Path, save: Callable[[Path], None]) -> bool:
        """Write a file, and return whether there was room for it."""
        with self.ignore_full_disk(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as part:
                save(part)
            return True
        return False

    def draw(self, trainer: Trainer, module: GAN) -> Image.Image:
        """Draw samples of the fixed latents as one labelled picture."""
        images, preview = module.sample(self.inputs).cpu(), None
        if module.game.condition:
            preview = module.game.condition.preview(self.inputs)
        shown = images if preview is None else interleave(preview.cpu(), images)
        modes = getattr(trainer.datamodule, "modes", None)  # type: ignore[attr-defined]
        panels = [sample_panel(module, self.inputs)]
        return draw_samples(module, shown, panels, sample_title(module), images_seen(module), modes, self.captions)

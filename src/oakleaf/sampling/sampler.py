"""What `sample.py` does: images of a mode are generated batch by batch, written to files, and drawn as a figure."""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from oakleaf.errors import UserError
from oakleaf.figures.animation import INSTALL_VIDEO, animate, has_video
from oakleaf.games import Batch
from oakleaf.gan import GAN
from oakleaf.image_grid import are_points
from oakleaf.runtime.run_dir import atomic_write
from oakleaf.sampling.conditions import requested_condition
from oakleaf.sampling.figure import condition_labels, draw_samples, sample_panel, sample_title
from oakleaf.sampling.files import Label, Npy, SampleFiles
from oakleaf.sampling.latents import Animated, Grid, Mode, sample_in_batches

log = logging.getLogger(__name__)

SHOWN = 256  # images on grid.png at most


class Sampler:
    """Generates the images of a mode and writes them.

    Args:
        module: the generator's module, on its device.
        mode: chooses the inputs.
        data: the node `data` of the run's configuration, which knows the values of the pictures.
        seed: of all random choices.
        condition: one condition for all images, by number, name or text; None: those that the mode chooses.
        ema: whether to use the EMA networks where there are any.
        captions: whether pictures have titles and headings.

    Attributes:
        count: images that were written.
        size: height and width of one of them.
    """

    def __init__(
        self,
        module: GAN,
        mode: Mode,
        data: Mapping[str, Any],
        seed: int = 0,
        condition: int | str | None = None,
        ema: bool = True,
        captions: bool = True,
    ) -> None:
        self.module, self.mode, self.data, self.seed, self.requested = module, mode, data, seed, condition
        self.condition = None if mode.request(module, condition) else condition  # for all images
        self.ema, self.captions = ema, captions
        mode.data_node = data
        mode.condition_rows = self._condition_rows
        self.count, self.size = 0, torch.Size((0, 0))
        self.columns: int | None = None
        self.shown: list[tuple[Batch, Tensor]] = []  # inputs and images of the grid

    def write(self, out: Path, formats: Sequence[SampleFiles]) -> list[str]:
        """Generate the images batch by batch and write them in each format.

        Args:
            out: folder of the files.
            formats: how they are stored.

        Returns:
            The files, in words.
        """
        names = self._names()
        with ExitStack() as stack:
            files = [stack.enter_context(one.opened(out, self.data)) for one in formats]
            for inputs, images in self._batches():
                if not self.count:
                    _check_room(out, formats, self.mode.total() or len(images), images)
                batch_names, labels = list(islice(names, len(images))), self._labels(inputs, len(images))
                for one in files:
                    one.add(images, batch_names, labels)
                if self.count < SHOWN or are_points(images):
                    self.shown.append((inputs, images))
                self.count, self.size = self.count + len(images), images.shape[2:]
        return [written for one in formats for written in one.written()]

    def _batches(self) -> Iterator[tuple[Batch, Tensor]]:
        """Give the inputs of each batch, and its images as the mode arranges them."""
        with (
            tqdm(total=self.mode.total(), desc="sampling", unit="img", leave=False, disable=None) as bar,
            self.module.ema_scope(self.ema) as game,
        ):
            for chosen, columns in self.mode.batches(game, self.seed):
                self.columns = columns
                inputs, images = self._generate(chosen)
                yield inputs, images
                bar.update(len(next(iter(inputs.values()))))

    def _generate(self, inputs: Batch) -> tuple[Batch, Tensor]:
        """Generate the images of some inputs, with the requested condition, as the mode arranges them."""
        encoder = self.module.game.condition
        if self.condition is not None:
            if self.mode.chooses_conditions and encoder is not None:
                reason = "this mode shows all conditions; leave it out, or use another mode"
                raise UserError(f"condition={self.condition}: {reason}")
            inputs = {**inputs, **self._condition_rows(len(next(iter(inputs.values()))))}
        images = sample_in_batches(self.module, inputs, self.ema, self.mode.generate)
        return inputs, self.mode.arrange(images, encoder.preview(inputs) if encoder else None)

    def _condition_rows(self, count: int) -> Batch:
        """Return the requested condition for some images; nothing if none was requested."""
        if self.condition is None:
            return {}
        key, rows = requested_condition(self.module, self.condition, count)
        return {key: rows}

    def _names(self) -> Iterator[str]:
        """Give the names of the PNG files: by seed, or by number; with several images of an input, also by kind."""
        plain = self.mode.names(self.seed) if isinstance(self.mode, Grid) else (f"{number:06d}" for number in count())
        kinds = self.mode.kinds(self.module)
        return (f"{name}-{kind}" if kind else name for name in plain for kind in kinds)

    def _labels(self, inputs: Batch, images: int) -> list[Label]:
        """Return what each image is conditioned on; nothing for images of several kinds."""
        texts, condition = condition_labels(self.module, inputs, drawn=False), self.module.game.condition
        if condition is None or len(texts) != images:
            return []
        numbers = inputs[condition.key].tolist() if condition.classes else [None] * len(texts)
        return [Label(number, text) for number, text in zip(numbers, texts)]

    def draw_grid(self, out: Path, modes: Tensor | None = None) -> str:
        """Draw the first images as `grid.png`; call it after `write`.

        Args:
            out: its folder.
            modes: means of the true modes of points in the plane.

        Returns:
            The file, in words.
        """
        images = torch.cat([images for _, images in self.shown])
        inputs = {name: torch.cat([part[name] for part, _ in self.shown]) for name in self.shown[0][0]}
        panels = self.mode.panels(self.module, inputs, self.columns)
        picture = draw_samples(
            self.module, images, panels, self._title(), self._note(inputs), modes, self.captions, SHOWN
        )
        with atomic_write(out / "grid.png") as part:
            picture.save(part)
        return f"{out}/grid.png" + (f" (the first {SHOWN})" if self.count > SHOWN and not are_points(images) else "")

    def _title(self) -> str:
        system = sample_title(self.module)
        return f"{system}: {self.mode.title}" if self.mode.title else system

    def _note(self, inputs: Batch) -> str:
        """Return the seed where one seed chose the images, and the condition if it was requested."""
        parts = [f"seed {self.seed}"] if self.mode.uses_seed and self.mode.latents is None else []
        if self.condition is None and self.requested is not None:
            parts.append(str(self.requested))
        if self.condition is not None:
            parts.append((condition_labels(self.module, inputs) or [str(self.condition)])[0])
        return ", ".join(parts)

    def draw_animation(self, out: Path) -> list[str]:
        """Draw the frames of an animated mode as a GIF and, if PyAV is installed, as a video; call it after `write`.

        Returns:
            The files; none for a mode that is not animated.
        """
        if not isinstance(self.mode, Animated):
            return []
        files = [out / "animation.gif"]
        with ExitStack() as stack:
            gif, video = stack.enter_context(atomic_write(files[0])), None
            if has_video():
                files.append(out / "animation.mp4")
                video = stack.enter_context(atomic_write(files[1]))
            else:
                log.info("no animation.mp4: %s", INSTALL_VIDEO)
            animate(self._draw_frame, self.mode.frames, self.mode.frames_per_second, gif, video)
        return [str(file) for file in files]

    def _draw_frame(self, number: int) -> Image.Image:
        assert isinstance(self.mode, Animated)
        inputs, images = self._generate(self.mode.frame(number))
        panels = [sample_panel(self.module, inputs)]
        return draw_samples(self.module, images, panels, self._title(), captions=self.captions)


def _check_room(out: Path, formats: Sequence[SampleFiles], total: int | None, images: Tensor) -> None:
    """Check before sampling that the disk has room for an array of so many images.

    Raises:
        UserError: it has not.
    """
    if total is None:  # the mode does not know it
        return
    needed, free = total * images[0].numel() / 1e9, shutil.disk_usage(out).free / 1e9
    if needed > free and any(isinstance(one, Npy) for one in formats):
        raise UserError(f"out={out}: {total:,} images need {needed:,.1f} GB, and {free:,.1f} GB are free there")

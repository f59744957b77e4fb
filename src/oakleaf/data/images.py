"""The data module for images: decoded once, kept as bytes, on the accelerator if they fit, normalised there."""

import logging
import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import astuple
from pathlib import Path
from typing import Literal

import torch
from PIL import ImageOps
from torch import Tensor

from oakleaf.data.cache import UNREADABLE, OnCorrupt, decoded
from oakleaf.data.dealt import Dealt
from oakleaf.data.deck import Resident, Rows, Streamed
from oakleaf.data.fit import Crop, Fit, Resample, is_grey
from oakleaf.data.labelled import Labelled, hidden, parted
from oakleaf.data.sources import Source
from oakleaf.errors import Mistake
from oakleaf.networks.layers import Size, height_width
from oakleaf.numbers import Count, Natural
from oakleaf.pictures import to_bytes

log = logging.getLogger(__name__)

PEEK = 64  # pictures looked at to learn the set's channels


class Images(Dealt):
    """Batches {image: [B, C, H, W] in [-1, 1], label: [B], ...} of a source's pictures.

    size: H = W, or [H, W]; null: that of the first picture. channels: 1 or 3; null: 1 if the pictures are grey, else 3.
    classes: how many kinds of labels (or attributes) there are; null: as many as the source knows.
    labelled: so many images keep their label, chosen by labelled_seed, and each batch has as many of them besides, as
    `labelled_image` and `labelled_label`; all others have the label -1 there. Measures still know all labels. null: no
    label is hidden.
    crop, resample, on_corrupt: see `Fit` and `decoded`. flip: mirror each picture or not, by chance, in each epoch.
    batch_size: images a process and turn. epochs: a good length for a run on this set.
    keep: device = all images on the accelerator; workers = read from the cache on disk by `workers` processes; auto =
    on the device where they take less than a quarter of its free memory.
    """

    def __init__(
        self,
        name: str,
        source: Callable[[Path], Source],
        root: str,
        size: Size | None = None,
        channels: Literal[1, 3] | None = None,
        classes: Natural | None = None,
        labelled: Count | None = None,
        labelled_seed: int = 0,
        crop: Crop = "center",
        resample: Resample = "bilinear",
        flip: bool = False,
        batch_size: Count = 64,
        epochs: Count = 1,
        on_corrupt: OnCorrupt = "error",
        keep: Literal["auto", "device", "workers"] = "auto",
        workers: Natural = 2,
        cache: str = "~/.cache/oakleaf",
        seed: int = 0,
    ) -> None:
        super().__init__(name, batch_size, epochs, seed)
        self.flip = flip
        self.on_corrupt, self.keep, self.workers, self.cache = on_corrupt, keep, workers, Path(cache)
        self.source = source(Path(root).expanduser())
        grey, first = self._peek() if channels is None or size is None else (False, (0, 0))
        self.channels = channels or (1 if grey else 3)
        self.size = first if size is None else height_width(size)
        self.fit = Fit(self.channels, *self.size, crop, resample, self.source.upscale)
        self.keys, self.classes = list(self.source.labels), self.source.classes
        self.agree(classes)
        self.labelled = Labelled(labelled, labelled_seed) if labelled else None

    def prepare_data(self) -> None:
        """Decode, once a machine."""
        decoded(self.source, self.fit, self.on_corrupt, self.cache)

    def setup(self, stage: str | None = None) -> None:
        images, kept, skipped = decoded(self.source, self.fit, self.on_corrupt, self.cache)
        if skipped:
            log.warning("%d of %d pictures skipped, the first: %s", len(skipped), len(self.source), skipped[0])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable.*")  # nothing writes into the mapped file
            self.rows = {"image": torch.from_numpy(images)}
        self.rows |= {name: torch.from_numpy(values[kept]) for name, values in self.source.labels.items()}

    def train_dataloader(self) -> Iterable[Rows]:
        trainer = self.trainer
        assert trainer is not None
        rows, device = self.rows, trainer.strategy.root_device
        few = self.labelled.rows(rows) if self.labelled else None
        if few is not None:
            rows = {**rows, "label": hidden(rows["label"], few)}
        deck = self.deck(trainer.global_rank, trainer.world_size, few)
        if self.keep == "workers" or (self.keep == "auto" and not self._fits(device)):
            return Streamed(rows, deck, self.turn, self.workers, pin=device.type == "cuda")
        return Resident({name: values.to(device) for name, values in rows.items()}, deck, self.turn)

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """Bytes to [-1, 1], and mirroring, on the device."""
        module = self.trainer.lightning_module if self.trainer else None
        image = batch["image"].contiguous(memory_format=torch.channels_last)
        image = image.to(module.dtype if module else torch.float32).div_(127.5).sub_(1)  # type: ignore[arg-type]
        mirrored = batch.pop("mirrored")
        if self.flip:
            image = torch.where(mirrored.to(image.device)[:, None, None, None], image.flip(3), image)
        batch = {**batch, "image": image}
        return parted(batch) if self.labelled else batch

    @property
    def digest(self) -> str:
        return repr((self.source.digest, astuple(self.fit), self.on_corrupt))

    def stored(self, images: Tensor) -> Tensor:
        return to_bytes(images)

    def _fits(self, device: torch.device) -> bool:
        needed = self.rows["image"].numel()
        if device.type == "cuda":
            return needed < torch.cuda.mem_get_info(device)[0] / 4
        return needed < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 4

    def _peek(self) -> tuple[bool, tuple[int, int]]:
        """Whether pictures from all over the set are grey, and (height, width) of the first."""
        grey, sizes = [], []
        for index in sorted({i * len(self.source) // PEEK for i in range(PEEK)}):
            try:
                with self.source.read(index) as picture:
                    grey.append(is_grey(picture))
                    upright = ImageOps.exif_transpose(picture)
                    sizes.append((upright.height, upright.width))
            except UNREADABLE as error:
                if self.on_corrupt == "error":
                    raise Mistake(f"{self.source.name(index)}: can't be read ({error})") from error
        if not sizes:
            raise Mistake(f"{self.source.name(0)} and what follows can't be read; is this a folder of pictures?")
        return all(grey), sizes[0]

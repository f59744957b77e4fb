"""The data module for images: decoded once, kept as bytes, on the accelerator if they fit, normalised there."""

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from oakleaf.config.types import NonNegativeInt, PositiveInt
from oakleaf.data.cache import OnCorrupt
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.data.decoded import DecodedImages, read_pairs
from oakleaf.data.inputs import Input
from oakleaf.data.resize import Crop, Resample
from oakleaf.data.sampling import DeviceLoader, EpochSampler, Rows, UnpairedLoader, WorkerLoader
from oakleaf.data.semi_supervised import LabelSubset, mask_labels, split_labelled
from oakleaf.data.sources import Source
from oakleaf.data.transforms import BatchTransform
from oakleaf.errors import UserError
from oakleaf.image_grid import to_bytes
from oakleaf.networks.layers import Size
from oakleaf.runtime.memory import available_bytes
from oakleaf.runtime.seeds import derive_seed


class Images(ImageDataModule):
    """Batches {image: [B, C, H, W] in [-1, 1], label: [B], ...} of a source's pictures.

    size: H = W, or [H, W]; null: that of the first picture. channels: 1 or 3; null: 1 if the pictures are grey, else 3.
    classes: how many kinds of labels (or attributes) there are; null: as many as the source knows.
    labelled: so many images keep their label, chosen by labelled_seed, and each batch has as many of them besides, as
    `labelled_image` and `labelled_label`; all others have the label -1 there. Measures still know all labels. null: no
    label is hidden.
    crop, resample, on_corrupt: see `CropResize` and `decoded`. flip: mirror each picture or not, by chance, in each epoch.
    jitter: enlarge by so many pixels and cut a part of the right size from anywhere (Isola 2016, arXiv:1611.07004,
    section 6.2: 30 of 286).
    input: how a translator's input is made from an image; null: as the source has it, if it has. input_channels: of the
    input; null: as many as it has. unpaired: images and inputs are dealt each on its own, though the set be of pairs.
    batch_size: images a process and turn. epochs: a good length for a run on this set.
    keep: device = all images on the accelerator; workers = read from the cache on disk by `workers` processes; auto =
    on the device where they, and all that belongs to them, take less than a quarter of its free memory.
    """

    def __init__(
        self,
        name: str,
        source: Callable[[Path], Source],
        root: str,
        size: Size | None = None,
        channels: Literal[1, 3] | None = None,
        classes: NonNegativeInt | None = None,
        labelled: PositiveInt | None = None,
        labelled_seed: int = 0,
        crop: Crop = "center",
        resample: Resample = "bilinear",
        flip: bool = False,
        jitter: NonNegativeInt = 0,
        input: Input | None = None,
        input_channels: NonNegativeInt | None = None,
        unpaired: bool = False,
        batch_size: PositiveInt = 64,
        epochs: PositiveInt = 1,
        on_corrupt: OnCorrupt = "error",
        keep: Literal["auto", "device", "workers"] = "auto",
        workers: NonNegativeInt = 2,
        cache: str = "~/.cache/oakleaf",
        seed: int = 0,
    ) -> None:
        super().__init__(name, batch_size, epochs, seed)
        self.unpaired = unpaired
        self.keep, self.workers, self.cache = keep, workers, Path(cache)
        self.source = source(Path(root).expanduser())
        if on_corrupt == "error":
            self.source.complete()
        sides = {"image": self.source, "input": self.source.inputs}
        unmixed = tuple(name for name, side in sides.items() if side and not side.mixes)
        self.transform = BatchTransform(flip, jitter, input, unmixed)
        self.decoded_images = DecodedImages(self.source, channels, size, crop, resample, on_corrupt, self.cache)
        self.channels, self.size = (
            self.decoded_images.fit.channels,
            (self.decoded_images.fit.height, self.decoded_images.fit.width),
        )
        self.others: DecodedImages | None = None
        if self.source.inputs and not input:
            known: Any = input_channels
            self.others = DecodedImages(self.source.inputs, known, self.size, crop, resample, on_corrupt, self.cache)
        self.input_channels, self.mirrors = self._input_channels(input), flip
        self.pairs = self.source.pairs or input is not None  # made of its image, an input belongs to it
        self.keys = [*self.source.labels, *(["input"] if self.input_channels else [])]
        self.classes = self.source.classes
        self.check_declared(classes, input_channels)
        self.streams: list[WorkerLoader] = []
        self.labelled = LabelSubset(labelled, labelled_seed) if labelled else None

    def prepare_data(self) -> None:
        """Decode, once a machine."""
        for decoded_images in (self.decoded_images, self.others):
            if decoded_images:
                decoded_images.prepare()

    def setup(self, stage: str | None = None) -> None:
        pictures: dict[str, np.ndarray] = {}
        if self.others and not self.unpaired:
            pictures["image"], pictures["input"], kept = read_pairs(self.decoded_images, self.others)
        else:
            pictures["image"], kept = self.decoded_images.read()
            if self.others:
                pictures["input"], _ = self.others.read()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable.*")  # nothing writes into the mapped file
            self.rows = {name: torch.from_numpy(images) for name, images in pictures.items()}
        self.rows |= {name: torch.from_numpy(values[kept]) for name, values in self.source.labels.items()}

    def train_dataloader(self) -> Iterable[Rows]:
        trainer = self.trainer
        assert trainer is not None
        rows = dict(self.rows)
        few = self.labelled.rows(rows) if self.labelled else None
        if few is not None:
            rows = {**rows, "label": mask_labels(rows["label"], few)}
        sampler = self.sampler(trainer.global_rank, trainer.world_size, few)
        if not (self.unpaired and "input" in rows):
            return self._loader(rows, sampler, self.iteration)
        inputs = rows.pop("input")
        if len(inputs) < sampler.batch * sampler.world:
            raise UserError(f"data={self.name}: {len(inputs)} inputs are too few for data.batch_size={self.batch_size}")
        own = EpochSampler(len(inputs), sampler.batch, derive_seed(self.seed, "inputs"), sampler.rank, sampler.world)
        images = self._loader(rows, sampler, self.iteration)
        return UnpairedLoader(images, lambda iteration: self._loader({"input": inputs}, own, iteration), self.iteration)

    def _loader(self, rows: Rows, sampler: EpochSampler, iteration: Callable[[], int]) -> DeviceLoader | WorkerLoader:
        assert self.trainer is not None
        device = self.trainer.strategy.root_device
        if self.keep == "workers" or (self.keep == "auto" and not self._fits(rows, device)):
            self.streams.append(WorkerLoader(rows, sampler, iteration, self.workers, device))
            return self.streams[-1]
        return DeviceLoader({name: values.to(device) for name, values in rows.items()}, sampler, iteration)

    def teardown(self, stage: str) -> None:
        while self.streams:
            self.streams.pop().close()

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """On the device: see `BatchTransform`."""
        module = self.trainer.lightning_module if self.trainer else None
        rank = self.trainer.global_rank if self.trainer else 0
        dtype: Any = module.dtype if module else torch.float32
        batch = self.transform(batch, dtype, derive_seed(self.seed, "finish", self.iteration(), rank))
        return split_labelled(batch) if self.labelled else batch

    def batch(self, rows: Tensor) -> Rows:
        there = {name: values[rows % len(values)] for name, values in self.rows.items()}  # unpaired inputs may be fewer
        return self.transform(there, torch.float32, derive_seed(self.seed, "batch"), train=False)

    @property
    def digest(self) -> str:
        return repr(self.decoded_images.digest)

    @property
    def resize_protocol(self) -> dict[str, str | int]:
        return {"crop": self.decoded_images.fit.crop, "resample": self.decoded_images.fit.resample}

    def stored(self, images: Tensor) -> Tensor:
        return to_bytes(images)

    def _fits(self, rows: Rows, device: torch.device) -> bool:
        assert self.trainer is not None
        needed = sum(values.nbytes for values in rows.values())
        if device.type == "cuda":
            return needed < torch.cuda.mem_get_info(device)[0] / 4
        return needed < available_bytes() / self.trainer.num_devices / 4  # each process has its own

    def _input_channels(self, input: Input | None) -> int:
        """Raises:
        UserError: images and inputs that are no pairs.
        """
        if self.others and not self.unpaired and len(self.others.source) != len(self.source):
            count = len(self.others.source)
            raise UserError(
                f"data={self.name}: {len(self.source)} images and {count} inputs; unpaired: data.unpaired=true"
            )
        return input.channels(self.channels) if input else self.others.fit.channels if self.others else 0

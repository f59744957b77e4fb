"""The data module for images: from a source of pictures to batches of images in [-1, 1]."""

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from oakleaf.config.types import NonNegativeInt, PositiveInt, Size
from oakleaf.data.cache import OnCorrupt
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.data.decoded import DecodedImages, read_pairs
from oakleaf.data.inputs import Input
from oakleaf.data.resize import Background, Crop, Resample
from oakleaf.data.sampling import DeviceLoader, EpochSampler, Rows, UnpairedLoader, WorkerLoader
from oakleaf.data.semi_supervised import LabelSubset, mask_labels, split_labelled
from oakleaf.data.sources import Source
from oakleaf.data.transforms import BatchTransform
from oakleaf.errors import UserError
from oakleaf.image_grid import to_bytes
from oakleaf.runtime.memory import available_bytes
from oakleaf.runtime.seeds import derive_seed


class Images(ImageDataModule):
    """Batches {image: [B, C, H, W] in [-1, 1], label: [B], ...} of a source's pictures.

    Pictures are decoded once into the cache on disk. From there the bytes are copied to the training device, if they
    and the rows that belong to them fit, or else read by worker processes. `BatchTransform` does the rest on the
    device.

    Args:
        name: of the data set.
        source: makes the source, given the root folder.
        root: the folder of the data set; `~` is the home folder.
        size: H = W, or (H, W), in pixels; null: the size of the first picture.
        channels: 1 for grey, 3 for colour, 4 with opacity, or the number that the pictures have; null: 1 if all are
            grey, 3 if they are in colour, else their number.
        range: (low, high), the values of the pictures that mean black and white; null: decided for the set, 0 to 255
            for ordinary pictures; see `oakleaf.data.values`.
        background: white, grey or black, behind transparent pixels where opacity is not one of the channels.
        classes: the expected number of classes (or attributes, or words); null: not checked.
        labelled: how many images keep their label, the same number of each class. Each batch then has as many labelled
            images as others, as `labelled_image` and `labelled_label`, and `label` is -1 for all images that do not
            keep theirs. Metrics still know all labels. null: no label is hidden.
        labelled_seed: which images keep their label.
        balanced: show each class equally often, the images of a rare one repeatedly.
        crop: how a picture of another shape is cut; see `CropResize`.
        resample: the filter for resizing; see `CropResize`.
        flip: mirror each image with probability 1/2, anew in each epoch.
        jitter: enlarge each image by this many pixels and crop a random part of the original size; 0: no crop.
        input: how the input of an image-to-image generator is computed from the image; null: the input that the source
            has, or none.
        input_channels: the channels of the input; null: those that it has.
        unpaired: shuffle images and inputs independently of each other, even if the source has pairs.
        batch_size: images in a batch of one process.
        epochs: the length of a run, unless it is set otherwise.
        on_corrupt: "error": a picture that cannot be read or is too small is an error; "skip": it is left out.
        keep: where the images are held. "device": on the training device; "workers": in the cache on disk, read by
            worker processes; "auto": on the device if all rows take less than a quarter of its free memory.
        workers: the number of worker processes.
        cache: the folder of decoded images and other things that are computed once.
        seed: of the order of the images and of random transforms.

    Attributes:
        source: the source of the pictures.
        decoded_images: its images.
        input_images: the images of the source's inputs; None if the input is computed, or if there is none.
        transform: the `BatchTransform`.

    Raises:
        UserError: the pictures or an option do not fit together; the message says how.

    Reference: Isola 2016, arXiv:1611.07004, section 6.2, for `jitter` (30 of 286).
    """

    def __init__(
        self,
        name: str,
        source: Callable[[Path], Source],
        root: str,
        size: Size | None = None,
        channels: PositiveInt | None = None,
        classes: NonNegativeInt | None = None,
        labelled: PositiveInt | None = None,
        labelled_seed: int = 0,
        balanced: bool = False,
        range: tuple[float, float] | None = None,
        background: Background = "white",
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
        for part in (self.source, self.source.inputs):
            if part is not None:
                part.cache = self.cache
        if on_corrupt == "error":
            self.source.complete()
        sources = {"image": self.source, "input": self.source.inputs}
        class_maps = tuple(name for name, source in sources.items() if source and not source.mixes)
        self.transform = BatchTransform(flip, jitter, input, class_maps)
        self.decoded_images = DecodedImages(
            self.source, channels, size, crop, resample, on_corrupt, self.cache, range, background
        )
        resize = self.decoded_images.resize
        self.channels, self.size = resize.channels, (resize.height, resize.width)
        self.value_range = None if resize.range.eight_bits else (resize.range.low, resize.range.high)
        self.input_images: DecodedImages | None = None
        if self.source.inputs and not input:
            self.input_images = DecodedImages(
                self.source.inputs,
                input_channels,
                self.size,
                crop,
                resample,
                on_corrupt,
                self.cache,
                background=background,
            )
        self.input_channels, self.mirrors = self._input_channels(input), flip
        self.pairs = self.source.pairs or input is not None  # a computed input belongs to its image
        self.keys = [*self.source.labels, *(["input"] if self.input_channels else [])]
        self.classes = self.source.classes
        self.check_declared(classes, input_channels)
        self.worker_loaders: list[WorkerLoader] = []
        self.labelled = LabelSubset(labelled, labelled_seed) if labelled else None
        self.balanced = balanced
        self.check_balanced(balanced, labelled)

    def prepare_data(self) -> None:
        """Decode the pictures; Lightning calls it once on each machine."""
        for images in (self.decoded_images, self.input_images):
            if images:
                images.prepare()

    def setup(self, stage: str | None = None) -> None:
        """Open the decoded images, which stay memory-mapped, and the labels of those that were not skipped."""
        arrays: dict[str, np.ndarray] = {}
        if self.input_images and not self.unpaired:
            arrays["image"], arrays["input"], kept = read_pairs(self.decoded_images, self.input_images)
        else:
            arrays["image"], kept = self.decoded_images.read()
            if self.input_images:
                arrays["input"], _ = self.input_images.read()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable.*")  # nothing writes into the mapped file
            self.rows = {name: torch.from_numpy(images) for name, images in arrays.items()}
        self.rows |= {name: torch.from_numpy(values[kept]) for name, values in self.source.labels.items()}

    def train_dataloader(self) -> Iterable[Rows]:
        """Return the loader of the training batches, with rows as they are stored."""
        trainer = self.trainer
        assert trainer is not None
        rows = dict(self.rows)
        labelled_rows = self.labelled.rows(rows) if self.labelled else None
        if labelled_rows is not None:
            rows = {**rows, "label": mask_labels(rows["label"], labelled_rows)}
        classes = rows["label"] if self.balanced else None
        sampler = self.sampler(trainer.global_rank, trainer.world_size, labelled_rows, classes)
        if not (self.unpaired and "input" in rows):
            return self._loader(rows, sampler, self.iteration)
        inputs = {"input": rows.pop("input")}
        input_sampler = self._input_sampler(len(inputs["input"]), sampler)
        images = self._loader(rows, sampler, self.iteration)
        return UnpairedLoader(images, lambda iteration: self._loader(inputs, input_sampler, iteration), self.iteration)

    def _input_sampler(self, count: int, sampler: EpochSampler) -> EpochSampler:
        """The sampler of unpaired inputs: as the images', with another seed."""
        if count < sampler.batch * sampler.world:
            raise UserError(f"data={self.name}: {count} inputs are too few for data.batch_size={self.batch_size}")
        return EpochSampler(count, sampler.batch, derive_seed(self.seed, "inputs"), sampler.rank, sampler.world)

    def _loader(self, rows: Rows, sampler: EpochSampler, iteration: Callable[[], int]) -> DeviceLoader | WorkerLoader:
        assert self.trainer is not None
        device = self.trainer.strategy.root_device
        if self.keep == "workers" or (self.keep == "auto" and not self._fits(rows, device)):
            self.worker_loaders.append(WorkerLoader(rows, sampler, iteration, self.workers, device))
            return self.worker_loaders[-1]
        return DeviceLoader({name: values.to(device) for name, values in rows.items()}, sampler, iteration)

    def teardown(self, stage: str) -> None:
        """Stop the worker processes."""
        while self.worker_loaders:
            self.worker_loaders.pop().close()

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """Transform a batch on the device; see `BatchTransform`. The random crops follow from the iteration."""
        module = self.trainer.lightning_module if self.trainer else None
        rank = self.trainer.global_rank if self.trainer else 0
        dtype: Any = module.dtype if module else torch.float32
        batch = self.transform(batch, dtype, derive_seed(self.seed, "finish", self.iteration(), rank))
        return split_labelled(batch) if self.labelled else batch

    def batch(self, rows: Tensor) -> Rows:
        # unpaired inputs may be fewer than images
        selected = {name: values[rows % len(values)] for name, values in self.rows.items()}
        return self.transform(selected, torch.float32, derive_seed(self.seed, "batch"), train=False)

    @property
    def digest(self) -> str:
        return repr(self.decoded_images.digest)

    @property
    def summary(self) -> str:
        inputs = f"; inputs: {self.source.inputs.summary()}" if self.input_images and self.source.inputs else ""
        return self.source.summary() + inputs

    @property
    def resize_protocol(self) -> dict[str, str | int]:
        return {"crop": self.decoded_images.resize.crop, "resample": self.decoded_images.resize.resample}

    def stored(self, images: Tensor) -> Tensor:
        return to_bytes(images) if self.value_range is None else images.float().cpu()

    def _fits(self, rows: Rows, device: torch.device) -> bool:
        """Whether the rows take less than a quarter of the free memory of the device."""
        assert self.trainer is not None
        needed = sum(values.nbytes for values in rows.values())
        if device.type == "cuda":
            return needed < torch.cuda.mem_get_info(device)[0] / 4
        return needed < available_bytes() / self.trainer.num_devices / 4  # each process has a copy

    def _input_channels(self, input: Input | None) -> int:
        """The channels of the input, computed or from the source; 0 without.

        Raises:
            UserError: images and inputs should be pairs, and their numbers differ.
        """
        if self.input_images and not self.unpaired and len(self.input_images.source) != len(self.source):
            count = len(self.input_images.source)
            raise UserError(
                f"data={self.name}: {len(self.source)} images and {count} inputs are no pairs; set data.unpaired=true"
            )
        if input:
            return input.channels(self.channels)
        return self.input_images.resize.channels if self.input_images else 0

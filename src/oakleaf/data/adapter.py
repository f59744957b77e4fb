"""The data module of a user's own data: any data set or data module becomes what the rest of Oakleaf asks of data."""

import hashlib
import logging
import os
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from oakleaf import compat
from oakleaf.config.types import NonNegativeInt, PositiveInt, Size
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.data.inputs import Input
from oakleaf.data.items import ItemFormat, ItemOptions
from oakleaf.data.protocol import attribute, kind_of, rows_of
from oakleaf.data.readers import MapReader, ModuleReader, StreamReader, label_column
from oakleaf.data.resize import Background, Crop, Resample
from oakleaf.data.sampling import Rows
from oakleaf.data.semi_supervised import LabelSubset, split_labelled
from oakleaf.data.transforms import BatchTransform
from oakleaf.data.vocabulary import tokenize
from oakleaf.errors import UserError
from oakleaf.image_grid import to_bytes
from oakleaf.runtime.seeds import derive_seed

log = logging.getLogger(__name__)


class DatasetAdapter(ImageDataModule):
    """Batches {image: [B, C, H, W] in [-1, 1], label: [B], ...} of a data set or data module of the user's own.

    What the object must have is described in `oakleaf.data.protocol`. Size, channels, value range and classes are
    learned from its first items (of a map-style set: from 64 items from all over it, and all labels); the items that
    come later are held to what was learned.

    Args:
        dataset: a LightningDataModule, or a map-style or iterable set.
        name: of the data, for folders and reports.
        size: H = W, or (H, W), in pixels; other sizes are cropped and resized. null: the size of the first image.
        channels: null: those of the images, without opacity.
        classes: the number of classes; null: the attribute `classes`, or the labels that are found.
        columns: the item's own key for a row, by the row's name: {image: photo, label: kind}.
        range: (low, high), the values that mean black and white; null: see `oakleaf.data.values`.
        background: white, grey or black, behind transparent pixels.
        labelled: how many images keep their label; see `Images`. Only for a map-style set.
        labelled_seed: which images keep their label.
        balanced: show each class equally often, the images of a rare one repeatedly. Only for a map-style set.
        crop: how an image of another shape is cut; see `CropResize`.
        resample: the filter for resizing; see `CropResize`.
        upscale: enlarge images smaller than `size`; otherwise such an image is an error.
        flip: mirror each image with probability 1/2.
        jitter: enlarge each image by this many pixels and crop a random part of the original size; 0: no crop.
        input: how the input of an image-to-image generator is computed from the image; null: the item's own, or none.
        input_channels: the expected channels of the input; null: not checked.
        sharded: whether an iterable set divides itself among processes; otherwise each takes every n-th item.
        split: the loader of a data module whose images metrics use: train, val or test.
        held: images of an iterable set or of a data module that stand for the set in metrics and alarms: its first.
        batch_size: images in a batch of one process; a data module decides this itself.
        epochs: the length of a run, unless it is set otherwise.
        workers: the number of worker processes; a data module decides this itself. An iterable set must divide its
            items among them itself.
        cache: the folder where metrics keep what they computed about these data.
        seed: of the order of the images and of random transforms.

    Attributes:
        kind: module, map or iterable.

    Raises:
        UserError: the object is no data set, or an item has no image or does not fit.
    """

    def __init__(
        self,
        dataset: Any,
        name: str = "dataset",
        size: Size | None = None,
        channels: PositiveInt | None = None,
        classes: NonNegativeInt | None = None,
        columns: dict[str, str] | None = None,
        range: tuple[float, float] | None = None,
        background: Background = "white",
        labelled: PositiveInt | None = None,
        labelled_seed: int = 0,
        balanced: bool = False,
        crop: Crop = "center",
        resample: Resample = "bilinear",
        upscale: bool = False,
        flip: bool = False,
        jitter: NonNegativeInt = 0,
        input: Input | None = None,
        input_channels: NonNegativeInt | None = None,
        sharded: bool = False,
        split: Literal["train", "val", "test"] = "train",
        held: PositiveInt = 5000,
        batch_size: PositiveInt = 64,
        epochs: PositiveInt = 1,
        workers: NonNegativeInt = 0,
        cache: str = "~/.cache/oakleaf",
        seed: int = 0,
    ) -> None:
        super().__init__(name, batch_size, epochs, seed)
        self.dataset, self.kind, self.held, self.cache = dataset, kind_of(dataset), held, Path(cache)
        self.reader = self._reader(split, workers, sharded, columns)
        given_range = range or attribute(dataset, "range")
        options = ItemOptions(columns, size, channels, given_range, background, crop, resample, upscale)
        first = self.reader.inspect()
        self.form = ItemFormat(first, options, batched=self.kind == "module")
        self.size, self.channels = self.form.size, self.form.channels
        self.value_range = None if self.form.range.eight_bits else (self.form.range.low, self.form.range.high)
        self.transform = BatchTransform(flip, jitter, input)
        self.mirrors, self.pairs = flip, bool(attribute(dataset, "pairs", True))
        self.input_channels = input.channels(self.channels) if input else self.form.input_channels
        self.keys = [name for name in self.form.keys if name != "input"] + (["input"] if self.input_channels else [])
        self.labelled = LabelSubset(labelled, labelled_seed) if labelled else None
        if (labelled or balanced) and self.kind != "map":
            option = f"data.labelled={labelled}" if labelled else "data.balanced=true"
            raise UserError(f"{option}: a map-style set is needed, whose labels are known before the training")
        self.balanced = balanced
        self.check_balanced(balanced, labelled)
        if self.kind == "module":
            self.batch_size = len(self.form.batch(first[0])["image"])
        self.identity = attribute(dataset, "digest") or _hash_of_items(self.form, first)
        self.classes = self._class_names(first, classes)
        self.check_declared(classes, input_channels)
        self.loaders: list[Any] = []

    def _reader(self, split: str, workers: int, sharded: bool, columns: Mapping[str, str] | None) -> Any:
        if self.kind == "module":
            if not int(os.environ.get("LOCAL_RANK", 0)):  # once on each machine; the others are started later
                self.dataset.prepare_data()
            self.dataset.setup("test" if split == "test" else "fit")
            return ModuleReader(self.dataset, self.seed, split, columns)
        if self.kind == "map":
            return MapReader(self.dataset, workers, self.seed)
        return StreamReader(self.dataset, workers, self.seed, self.batch_size, sharded)

    @property
    def summary(self) -> str:
        kinds = {"module": "a data module", "iterable": "an iterable set"}
        size = f"{len(self.dataset):,} items" if self.kind == "map" else kinds[self.kind]
        classes = f", {len(self.classes)} classes" if self.classes and "label" in self.form.keys else ""
        others = [name for name in self.keys if name != "label"]
        return f"{size}{classes}" + (f", with {' and '.join(others)}" if others else "")

    # ---- Classes -----------------------------------------------------------------------------------------------------

    def _class_names(self, first: Sequence[Any], declared: int | None) -> list[str]:
        """The names of the classes, attributes or words; empty without any of them."""
        names = attribute(self.dataset, "classes") or _hugging_face_names(self.dataset, self.form)
        names = None if names is None else [str(name) for name in names]
        if "caption" in self.form.keys:
            self.form.classes = names if names is not None else self._vocabulary()
            return self.form.classes
        if "label" in self.form.keys:
            labels = [_plain(label) for item in first for label in self._labels_of(item)]
            self.form.classes = self._names_of_classes(labels, declared) if names is None else names
            for label in labels:
                self.form.label(label)  # raises for one without a class
            return self.form.classes
        if "attributes" in self.form.keys:
            attributes = self._raw(first[0], "attributes")
            width = len(attributes[0] if self.kind == "module" else attributes)
            return names if names is not None else [str(number) for number in np.arange(width)]
        return []

    def _names_of_classes(self, first: list[Any], declared: int | None) -> list[str]:
        """The names of the classes where the data set does not name them; `first` has the labels of the first items."""
        if declared is not None and not isinstance(first[0], str):
            return [str(number) for number in np.arange(declared)]
        if self.kind == "map":
            return _names_of_labels(label_column(self.reader, self.form, attribute(self.dataset, "targets")))
        labels = [label for item in self.reader.first_items(self.held) for label in self._labels_of(item)]
        log.warning(
            "the classes were counted in the first %d images; the attribute `classes` or data.classes=NUMBER says how "
            "many there are", len(labels)
        )  # fmt: skip
        return _names_of_labels([*labels, *first])

    def _labels_of(self, item: Any) -> list[Any]:
        label = self._raw(item, "label")
        return list(label) if self.kind == "module" else [label]

    def _raw(self, item: Any, name: str) -> Any:
        """A row of an item, or of a batch, as it is."""
        return rows_of(item, self.form.options.columns, self.kind == "module")[name]

    def _vocabulary(self) -> list[str]:
        """The words of all captions, the most frequent first; of an iterable set those of its first images."""
        if self.kind == "map":
            items = (self.reader.item(row) for row in np.arange(len(self.dataset)).tolist())
        else:
            items = iter(self.reader.inspect())
        counts: dict[str, int] = {}
        for item in items:
            caption = self._raw(item, "caption")
            for word in tokenize(" ".join([caption] if isinstance(caption, str) else map(str, caption))):
                counts[word] = counts.get(word, 0) + 1
        return sorted(counts, key=lambda word: (-counts[word], word))

    # ---- Images by number --------------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        return len(self.dataset) if self.kind == "map" else len(self._held["image"])

    @property
    def columns(self) -> Collection[str]:
        return self.form.keys

    @cached_property
    def _held(self) -> Rows:
        """The first rows of a stream or data module."""
        return self.reader.first_held(self.form, self.held)

    def images(self, rows: Tensor | None = None) -> Tensor:
        if self.kind != "map":
            return self._held["image"] if rows is None else self._held["image"][rows]
        if rows is None:
            return self._all_images
        if "_all_images" in self.__dict__:
            return self._all_images[rows]
        if not len(rows):
            return torch.empty(0, self.channels, *self.size, dtype=torch.uint8)
        return self.reader.read(self.form, rows, ["image"])["image"]

    @cached_property
    def _all_images(self) -> Tensor:
        """All images of a map-style set, in a memory-mapped file without a name, which lasts as long as the process."""
        shape = (self.count, self.channels, *self.size)
        dtype = np.uint8 if self.form.range.eight_bits else np.float32
        with tempfile.TemporaryFile() as file:
            array = np.memmap(file, dtype, "w+", shape=shape)
        for rows in torch.arange(self.count).split(4096):
            array[rows[0] : rows[-1] + 1] = self.reader.read(self.form, rows, ["image"])["image"].numpy()
        return torch.from_numpy(array)

    def column(self, name: str, rows: Tensor | None = None) -> Tensor:
        if self.kind != "map":
            return self._held[name] if rows is None else self._held[name][rows]
        if name == "label":
            return self._all_labels if rows is None else self._all_labels[rows]
        rows = torch.arange(self.count) if rows is None else rows
        return self.reader.read(self.form, rows, [name], f"reading {name}")[name]

    @cached_property
    def _all_labels(self) -> Tensor:
        labels = label_column(self.reader, self.form, attribute(self.dataset, "targets"))
        return torch.tensor([self.form.label(_plain(label)) for label in labels])

    def batch(self, rows: Tensor) -> Rows:
        if self.kind == "map":
            selected = self.reader.read(self.form, rows, ["image", *self.form.keys])
        else:
            selected = {name: values[rows] for name, values in self._held.items()}
        return self.transform(selected, torch.float32, derive_seed(self.seed, "batch"), train=False)

    @cached_property
    def digest(self) -> str:
        """The attribute `digest`; without it a hash of all images that metrics see."""
        if known := attribute(self.dataset, "digest"):
            return repr((known, self._conversion))
        hashed = hashlib.blake2b(digest_size=16)
        for images in self.images().split(4096):
            hashed.update(np.ascontiguousarray(images.numpy()).data)
        return hashed.hexdigest()

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits that identify these data, by some items, as not all can be read at each start."""
        return hashlib.blake2b(repr((self.identity, self._conversion)).encode(), digest_size=8).hexdigest()

    @property
    def _conversion(self) -> tuple[Any, ...]:
        """Everything that decides how an item becomes an image."""
        options = self.form.options
        return self.size, self.channels, self.form.range, options.crop, options.resample, options.background

    def stored(self, images: Tensor) -> Tensor:
        return to_bytes(images) if self.value_range is None else images.float().cpu()

    # ---- Lightning's hooks -------------------------------------------------------------------------------------------

    def setup(self, stage: str | None = None) -> None:
        """Call the hook of a data module again, which now has a trainer."""
        if self.kind == "module" and self.trainer is not None:
            self.dataset.trainer = self.trainer
            self.dataset.setup(stage)

    def train_dataloader(self) -> Iterable[Any]:
        """Return the loader of the training batches, with rows as they are stored."""
        trainer = self.trainer
        assert trainer is not None
        rank, world = trainer.global_rank, trainer.world_size
        if self.kind == "module":
            return self.reader.loader(self.iteration, rank, world)
        if self.kind == "iterable":
            return self.reader.loader(self.form, self.iteration, rank, world)
        self.kept = self.labelled.rows({"label": self.column("label")}) if self.labelled else None
        sampler = self.sampler(rank, world, self.kept, self.column("label") if self.balanced else None)
        self.loaders.append(self.reader.loader(self.form, sampler, self.iteration, rank))
        return self.loaders[-1]

    def teardown(self, stage: str) -> None:
        """Stop the worker processes."""
        while self.loaders:
            compat.shutdown_workers(self.loaders.pop().loader)
        if self.kind == "module":
            self.dataset.teardown(stage)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Call the hook of a data module, and compare the values of the batch with the range."""
        if self.kind != "module":
            return batch
        images = self._raw(batch, "image")
        if isinstance(images, Tensor) and images.dtype != torch.uint8:
            self.form.note(images)
        if "label" in self.form.keys and isinstance(labels := self._raw(batch, "label"), Tensor):
            self.form.label(labels.max())  # on the CPU: a class that does not exist would stop a GPU
        return self.dataset.on_before_batch_transfer(batch, dataloader_idx)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        owner: Any = self.dataset if self.kind == "module" else super()
        return owner.transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Rows:
        """Convert a batch on the device; see `BatchTransform`. The random transforms follow from the iteration."""
        module = self.trainer.lightning_module if self.trainer else None
        rank = self.trainer.global_rank if self.trainer else 0
        dtype: Any = module.dtype if module else torch.float32
        if self.kind == "module":
            batch = self.form.batch(self.dataset.on_after_batch_transfer(batch, dataloader_idx))
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "mirrored", self.iteration(), rank))
            batch["mirrored"] = (torch.rand(len(batch["image"]), generator=generator) < 0.5).to(batch["image"].device)
        batch = dict(batch)
        rows = batch.pop("row", None)
        if self.labelled and rows is not None and self.kept is not None:
            kept = (rows.cpu()[:, None] == self.kept).any(1).to(batch["label"].device)
            batch["label"] = batch["label"].where(kept, -1)
        batch = self.transform(batch, dtype, derive_seed(self.seed, "finish", self.iteration(), rank))
        return split_labelled(batch) if self.labelled else batch


def _hash_of_items(form: ItemFormat, items: Sequence[Any]) -> str:
    """A hash of some items, or of the first batch."""
    hashed = hashlib.blake2b(digest_size=16)
    for item in items:
        images = form.batch(item)["image"].numpy() if form.batched else form.rows(item, ["image"])["image"]
        hashed.update(np.ascontiguousarray(images).data)
    return f"{hashed.hexdigest()}-{len(items)}"


def _hugging_face_names(dataset: Any, form: ItemFormat) -> Any:
    """The names of the classes that a Hugging Face set declares for its labels; None without."""
    features = getattr(dataset, "features", None)
    key = (form.options.columns or {}).get("label", "label")
    return getattr(features[key], "names", None) if isinstance(features, Mapping) and key in features else None


def _names_of_labels(labels: Sequence[Any]) -> list[str]:
    """The classes of a set of labels: texts in their order, or the numbers from 0 to the largest.

    Raises:
        UserError: a number is below -1.
    """
    found = {_plain(label) for label in labels} - {None, -1}
    if any(isinstance(label, str) for label in found):
        return sorted(map(str, found))
    if found and min(found) < 0:
        raise UserError(f"the label {min(found)} is no class; classes are numbered from 0, and -1 means no label")
    return [str(number) for number in np.arange(max(found, default=-1) + 1)]


def _plain(label: Any) -> Any:
    """A label as a text, a number or None."""
    return label.item() if hasattr(label, "item") and not getattr(label, "ndim", 0) else label

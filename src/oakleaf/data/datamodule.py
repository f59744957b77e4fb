"""The base class of all data modules."""

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from oakleaf.data.sampling import EpochSampler, Rows
from oakleaf.errors import UserError

log = logging.getLogger(__name__)


class ImageDataModule(LightningDataModule, ABC):
    """A training set, of which each batch is a selection, and the images that metrics, alarms and conditions ask for.

    Networks are built from `size`, `channels`, `classes` and `input_channels`, so these must be known after the
    constructor, before any picture is decoded. Whatever else looks at real images asks by `images`, `column` and
    `batch`, each for certain rows. A set that is in memory fills `rows` in `setup`, and the three methods of this class
    select from them; data that are read item by item (`oakleaf.data.adapter`) have methods of their own.

    Args:
        name: of the data set.
        batch_size: images in a batch of one process.
        epochs: the length of a run, unless it is set otherwise.
        seed: of the order of the images and of random transforms.

    Attributes:
        rows: the data in memory by name, on the CPU, as they are stored: `image` [N, C, H, W], `label` [N], ...; from
            `setup` on.
        size: (H, W) of the image in a batch.
        channels: C of the image in a batch.
        keys: the names of the other rows in a batch.
        classes: the names of the values of `label`, of the columns of `attributes`, or of the words of `caption`.
        input_channels: channels of `input`, which an image-to-image generator translates into the image; 0 without.
        mirrors: whether training mirrors images at random.
        pairs: whether the input and the image of the same row belong together.
        value_range: the values that mean black and white in the pictures, if images are stored with more than 8 bits;
            None for bytes.
        cache: the folder of what is computed once about these data and kept.
        modes: means of the modes of points in the plane, [K, 2] in the units of `image`; None if they are not known.
    """

    size: tuple[int, int]
    channels: int
    cache: Path
    input_channels: int = 0
    mirrors: bool = False
    pairs: bool = True
    value_range: tuple[float, float] | None = None
    keys: Sequence[str] = ()
    classes: Sequence[str] = ()
    modes: Tensor | None = None

    def __init__(self, name: str, batch_size: int, epochs: int, seed: int) -> None:
        super().__init__()
        self.name, self.batch_size, self.epochs, self.seed = name, batch_size, epochs, seed
        self.rows: Rows = {}

    @property
    @abstractmethod
    def digest(self) -> str:
        """Everything that distinguishes these rows from others: their content, and how images were resized."""

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits that identify these data: a hash of `digest`."""
        return hashlib.blake2b(self.digest.encode(), digest_size=8).hexdigest()

    @property
    def resize_protocol(self) -> dict[str, str | int]:
        """How pictures were cropped and resized, for the report of an evaluation; empty if they were not."""
        return {}

    @property
    def summary(self) -> str:
        """What was understood of the data, for the first lines of a run; empty if there is nothing to say."""
        return ""

    @abstractmethod
    def stored(self, images: Tensor) -> Tensor:
        """Convert generated images to the form in which real ones are stored, so that metrics treat both alike.

        Args:
            images: [B, C, H, W] in [-1, 1], on any device.

        Returns:
            [B, C, H, W] on the CPU: uint8 for images, float32 for points and vectors.
        """

    @property
    def count(self) -> int:
        """The number of images, N; from `setup` on."""
        return len(self.rows["image"])

    @property
    def columns(self) -> Collection[str]:
        """The names of the rows beside `image` that `column` returns."""
        return [name for name in self.rows if name != "image"]

    def images(self, rows: Tensor | None = None) -> Tensor:
        """Return images as they are stored.

        Args:
            rows: [B] int64, row numbers; None: all, which are not copied if they are in memory.

        Returns:
            [B, C, H, W]: uint8, or float32 in [-1, 1].
        """
        return self.rows["image"] if rows is None else self.rows["image"][rows]

    def column(self, name: str, rows: Tensor | None = None) -> Tensor:
        """Return the labels, attributes, captions, ... that belong to images.

        Args:
            name: one of `columns`.
            rows: [B] int64, row numbers; None: all.

        Returns:
            [B, ...].
        """
        return self.rows[name] if rows is None else self.rows[name][rows]

    def iter_images(self, batch_size: int, rows: Tensor | None = None) -> Iterator[Tensor]:
        """Return an iterator over `images` in batches of a size.

        Args:
            batch_size: images in a batch; the last one may have fewer.
            rows: row numbers; None: all.
        """
        if rows is None:
            rows = torch.arange(self.count)
        return (self.images(part) for part in rows.split(batch_size))

    def batch(self, rows: Tensor) -> Rows:
        """Return certain rows as a batch, without any random transform.

        Args:
            rows: [B] int64, row numbers.
        """
        return {name: values[rows] for name, values in self.rows.items()}

    def check_declared(self, classes: int | None, input_channels: int | None) -> None:
        """Compare the configured numbers with what the data have.

        Args:
            classes: the configured number of classes; None: not checked.
            input_channels: the configured number of channels of the input; None: not checked.

        Raises:
            UserError: a number differs.
        """
        if input_channels is not None and input_channels != self.input_channels:
            raise UserError(f"data.input_channels={input_channels}: data={self.name} has {self.input_channels}")
        if classes is not None and classes != len(self.classes):
            raise UserError(f"data.classes={classes}: data={self.name} has {len(self.classes) or 'no'} classes")

    def sampler(
        self, rank: int, world: int, oversample: Tensor | None = None, balance: Tensor | None = None
    ) -> EpochSampler:
        """Return the sampler of the training rows.

        The batch is smaller than configured, with a warning, if there are fewer images than one global batch.

        Args:
            rank: the number of this process.
            world: the number of processes.
            oversample: [n] int64, rows that are repeated in each batch; see `EpochSampler`.
            balance: [N], the class of each row, if batches have each class equally often; see `EpochSampler`.

        Raises:
            UserError: there are fewer images than processes.
        """
        count = self.count
        batch = min(self.batch_size, count // world)
        if batch < 1:
            raise UserError(f"data={self.name}: {count} pictures are too few for {world} processes")
        if batch < self.batch_size and rank == 0:
            log.warning("batches of %d instead of %d, as there are only %d pictures", batch, self.batch_size, count)
        return EpochSampler(count, batch, self.seed, rank, world, oversample, balance)

    def check_balanced(self, balanced: bool, labelled: int | None) -> None:
        """Check that the classes of a set can be balanced.

        Args:
            balanced: the option `data.balanced`.
            labelled: the option `data.labelled`.

        Raises:
            UserError: there are no labels, or most of them are hidden.
        """
        if balanced and "label" not in self.keys:
            raise UserError(f"data.balanced=true: data={self.name} has no labels")
        if balanced and labelled:
            raise UserError("data.balanced=true: with data.labelled most labels are hidden; choose one of both")

    def iteration(self) -> int:
        """Return the iteration of the run, which decides the next batch; 0 without a trainer."""
        module: Any = self.trainer.lightning_module if self.trainer else None
        return module.iteration if module is not None else 0

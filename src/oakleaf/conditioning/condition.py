"""What a generator is index for and its critic is told. A Condition turns rows of a batch into y [B, width], or y
[B, width, H, W], and asks for samples when there is no batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from oakleaf.config.types import PositiveInt
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.errors import UserError
from oakleaf.image_grid import from_bytes, to_bytes
from oakleaf.networks.layers import Size, height_width

REMEMBERED = 256  # rows of the data that a Row asks for
PICTURES = 64  # pictures that a Picture asks for


class Condition(nn.Module, ABC):
    """key: of the batch's rows that it reads; width: of its vectors, or channels of its pictures. classes: how many
    classes it tells apart, 0 if it is told none. whence: where its rows are to be had, said where they lack.
    """

    key: str
    width: int
    classes: int = 0
    source_hint: str = ""

    @abstractmethod
    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The batch's rows as y [B, width, ...]."""

    @abstractmethod
    def sample(self, count: int) -> Tensor:
        """Rows to ask for, [count, ...]: each class in turn, or what is remembered of the data."""

    @abstractmethod
    def from_index(self, index: int, count: int) -> Tensor:
        """The rows that ask for one thing, `count` times.

        Raises:
            UserError: there is no such thing.
        """

    def from_text(self, text: str, count: int) -> Tensor:
        """The rows that ask for what a text says, `count` times.

        Raises:
            UserError: this condition is no text, or the text has words that nobody knows.
        """
        raise UserError(
            f"condition={text}: this checkpoint is told `{self.key}`, and none is called so; a number asks too"
        )

    def fit(self, data: ImageDataModule) -> None:
        """See the data, before the training; most know all that there is."""

    def preview(self, batch: Mapping[str, Tensor]) -> Tensor | None:
        """What to show beside each image that was index for, [B, C, H, W] in [-1, 1]; None: nothing."""
        return None


class Label(Condition):
    """One of `width` classes, as a one-hot vector; zeros where it is unlabelled, -1. Mirza 2014, arXiv:1411.1784."""

    key = "label"
    kinds: Tensor  # [width, width], a one-hot vector for each class

    def __init__(self, width: PositiveInt) -> None:
        super().__init__()
        self.width = self.classes = width
        self.register_buffer("kinds", torch.eye(width), persistent=False)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        label = batch[self.key]
        return self.kinds[label.clamp(min=0)] * (label >= 0)[:, None]

    def sample(self, count: int) -> Tensor:
        return torch.arange(count) % self.width

    def from_index(self, index: int, count: int) -> Tensor:
        if not 0 <= index < self.width:
            raise UserError(f"condition={index}: the checkpoint knows the classes 0 to {self.width - 1}")
        return torch.full((count,), index)


class Vector(Condition):
    """A row of numbers for each image: attributes, features of an image, an embedded caption. Without a batch it asks
    for rows that it remembers from the data.
    """

    remembered: Tensor  # [REMEMBERED, width]

    def __init__(self, key: str, width: PositiveInt) -> None:
        super().__init__()
        self.key, self.width = key, width
        self.register_buffer("remembered", torch.zeros(REMEMBERED, width))

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return batch[self.key].to(self.remembered.dtype)

    def sample(self, count: int) -> Tensor:
        return self.remembered.cpu()[torch.arange(count) % REMEMBERED]

    def from_index(self, index: int, count: int) -> Tensor:
        if not 0 <= index < REMEMBERED:
            raise UserError(f"condition={index}: the checkpoint remembers {REMEMBERED} rows of {self.key}, from 0 on")
        return self.remembered.cpu()[index].expand(count, -1)

    def fit(self, data: ImageDataModule) -> None:
        there = data.rows[self.key]
        if there.dim() != 2 or there.shape[1] != self.width:
            raise UserError(
                f"{self.key}: rows of {self.width} numbers an image are expected, there are {list(there.shape[1:])}"
                + (f": model.game.condition.width={there.shape[1]}" if there.dim() == 2 else "")
            )
        some = torch.randperm(len(there), generator=torch.Generator().manual_seed(0))
        self.remembered.copy_(there[some[torch.arange(REMEMBERED) % len(there)]])


class Picture(Condition):
    """A picture for each image, which G translates. Isola 2016, arXiv:1611.07004, section 3. Without a batch it asks
    for pictures that it remembers from the data, as bytes.

    channels, size: of the pictures, [B, channels, H, W] in [-1, 1].
    """

    key = "input"
    remembered: Tensor  # [PICTURES, channels, H, W] uint8

    def __init__(self, channels: PositiveInt, size: Size) -> None:
        super().__init__()
        self.width = channels
        self.register_buffer("remembered", torch.zeros(PICTURES, channels, *height_width(size), dtype=torch.uint8))

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return batch[self.key]

    def sample(self, count: int) -> Tensor:
        return from_bytes(self.remembered.cpu()[torch.arange(count) % PICTURES])

    def from_index(self, index: int, count: int) -> Tensor:
        if not 0 <= index < PICTURES:
            raise UserError(f"condition={index}: the checkpoint remembers {PICTURES} pictures, from 0 on")
        return from_bytes(self.remembered.cpu()[index]).expand(count, -1, -1, -1)

    def fit(self, data: ImageDataModule) -> None:
        count = len(data.rows["image"])
        some = torch.randperm(count, generator=torch.Generator().manual_seed(0))[torch.arange(PICTURES) % count]
        self.remembered.copy_(to_bytes(data.batch(some)[self.key]))

    def preview(self, batch: Mapping[str, Tensor]) -> Tensor:
        return batch[self.key]

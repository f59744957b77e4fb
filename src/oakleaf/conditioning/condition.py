"""What a generator is asked for and its critic is told. A Condition turns rows of a batch into y [B, width], or y
[B, width, H, W], and asks for samples when there is no batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from oakleaf.config.types import Count
from oakleaf.data.datamodule import Dealt
from oakleaf.errors import Mistake
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
    whence: str = ""

    @abstractmethod
    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The batch's rows as y [B, width, ...]."""

    @abstractmethod
    def request(self, count: int) -> Tensor:
        """Rows to ask for, [count, ...]: each class in turn, or what is remembered of the data."""

    @abstractmethod
    def wanted(self, asked: int, count: int) -> Tensor:
        """The rows that ask for one thing, `count` times.

        Raises:
            Mistake: there is no such thing.
        """

    def said(self, text: str, count: int) -> Tensor:
        """The rows that ask for what a text says, `count` times.

        Raises:
            Mistake: this condition is no text, or the text has words that nobody knows.
        """
        raise Mistake(
            f"condition={text}: this checkpoint is told `{self.key}`, and none is called so; a number asks too"
        )

    def meet(self, data: Dealt) -> None:
        """See the data, before the training; most know all that there is."""

    def shown(self, batch: Mapping[str, Tensor]) -> Tensor | None:
        """What to show beside each image that was asked for, [B, C, H, W] in [-1, 1]; None: nothing."""
        return None


class Label(Condition):
    """One of `width` classes, as a one-hot vector; zeros where it is unlabelled, -1. Mirza 2014, arXiv:1411.1784."""

    key = "label"
    kinds: Tensor  # [width, width], a one-hot vector for each class

    def __init__(self, width: Count) -> None:
        super().__init__()
        self.width = self.classes = width
        self.register_buffer("kinds", torch.eye(width), persistent=False)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        label = batch[self.key]
        return self.kinds[label.clamp(min=0)] * (label >= 0)[:, None]

    def request(self, count: int) -> Tensor:
        return torch.arange(count) % self.width

    def wanted(self, asked: int, count: int) -> Tensor:
        if not 0 <= asked < self.width:
            raise Mistake(f"condition={asked}: the checkpoint knows the classes 0 to {self.width - 1}")
        return torch.full((count,), asked)


class Row(Condition):
    """A row of numbers for each image: attributes, features of an image, an embedded caption. Without a batch it asks
    for rows that it remembers from the data.
    """

    known: Tensor  # [REMEMBERED, width]

    def __init__(self, key: str, width: Count) -> None:
        super().__init__()
        self.key, self.width = key, width
        self.register_buffer("known", torch.zeros(REMEMBERED, width))

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return batch[self.key].to(self.known.dtype)

    def request(self, count: int) -> Tensor:
        return self.known.cpu()[torch.arange(count) % REMEMBERED]

    def wanted(self, asked: int, count: int) -> Tensor:
        if not 0 <= asked < REMEMBERED:
            raise Mistake(f"condition={asked}: the checkpoint remembers {REMEMBERED} rows of {self.key}, from 0 on")
        return self.known.cpu()[asked].expand(count, -1)

    def meet(self, data: Dealt) -> None:
        there = data.rows[self.key]
        if there.dim() != 2 or there.shape[1] != self.width:
            raise Mistake(
                f"{self.key}: rows of {self.width} numbers an image are expected, there are {list(there.shape[1:])}"
                + (f": model.game.condition.width={there.shape[1]}" if there.dim() == 2 else "")
            )
        some = torch.randperm(len(there), generator=torch.Generator().manual_seed(0))
        self.known.copy_(there[some[torch.arange(REMEMBERED) % len(there)]])


class Picture(Condition):
    """A picture for each image, which G translates. Isola 2016, arXiv:1611.07004, section 3. Without a batch it asks
    for pictures that it remembers from the data, as bytes.

    channels, size: of the pictures, [B, channels, H, W] in [-1, 1].
    """

    key = "input"
    known: Tensor  # [PICTURES, channels, H, W] uint8

    def __init__(self, channels: Count, size: Size) -> None:
        super().__init__()
        self.width = channels
        self.register_buffer("known", torch.zeros(PICTURES, channels, *height_width(size), dtype=torch.uint8))

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return batch[self.key]

    def request(self, count: int) -> Tensor:
        return from_bytes(self.known.cpu()[torch.arange(count) % PICTURES])

    def wanted(self, asked: int, count: int) -> Tensor:
        if not 0 <= asked < PICTURES:
            raise Mistake(f"condition={asked}: the checkpoint remembers {PICTURES} pictures, from 0 on")
        return from_bytes(self.known.cpu()[asked]).expand(count, -1, -1, -1)

    def meet(self, data: Dealt) -> None:
        count = len(data.rows["image"])
        some = torch.randperm(count, generator=torch.Generator().manual_seed(0))[torch.arange(PICTURES) % count]
        self.known.copy_(to_bytes(data.batch(some)[self.key]))

    def shown(self, batch: Mapping[str, Tensor]) -> Tensor:
        return batch[self.key]

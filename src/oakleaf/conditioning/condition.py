"""Conditions: what generator and discriminator are conditioned on.

A `Condition` encodes one row of the batch, such as `label`, as y: a vector [B, width], or a picture [B, width, H, W].
Where there is no batch (samples during training, `sample.py`, an exported generator) it provides rows to encode: each
class in turn, or rows that it copied from the data before the training and that are stored in the checkpoint. The rows
of the batch are kept apart from y so that a term can read the label itself, and samples can be requested by class
number.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from oakleaf.config.types import PositiveInt, Size, height_width
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.errors import UserError
from oakleaf.image_grid import from_bytes, to_bytes

STORED_ROWS = 256  # rows of the data that a Vector or a Caption keeps for samples
STORED_PICTURES = 64  # pictures of the data that a Picture keeps for samples


class Condition(nn.Module, ABC):
    """The encoder of one row of the batch as a condition.

    Attributes:
        key: the name of the row in the batch.
        width: the length of y, or the number of its channels where y is a picture.
        classes: the number of classes, if y is a class; else 0.
        source_hint: which data have such a row, for the error message if these data do not.
    """

    key: str
    width: int
    classes: int = 0
    source_hint: str = ""

    @abstractmethod
    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Encode the row `key` of a batch.

        Args:
            batch: rows by name, among them `key`.

        Returns:
            y [B, width] or [B, width, H, W].
        """

    @abstractmethod
    def sample(self, count: int) -> Tensor:
        """Return rows for samples: each class in turn, or rows of the data in a fixed order.

        Args:
            count: how many, B.

        Returns:
            [B, ...], to be given to `forward` under the name `key`.
        """

    def rows_at(self, numbers: Tensor) -> Tensor:
        """Return the rows that `sample` returns at these places of its order.

        Args:
            numbers: [B] int64, from 0.

        Returns:
            [B, ...], as from `sample`.
        """
        return self.sample(int(numbers.max()) + 1)[numbers]

    @abstractmethod
    def from_index(self, index: int, count: int) -> Tensor:
        """Return the row for a class, or for a stored row of the data.

        Args:
            index: the number of the class or of the stored row.
            count: how often the row is repeated, B.

        Returns:
            [B, ...], as from `sample`.

        Raises:
            UserError: there is no such number.
        """

    def from_text(self, text: str, count: int) -> Tensor:
        """Return the row for a text.

        Args:
            text: what the samples should show.
            count: how often the row is repeated, B.

        Returns:
            [B, ...], as from `sample`.

        Raises:
            UserError: this condition has no texts, or a word is not in its vocabulary.
        """
        raise UserError(
            f"condition={text}: this checkpoint is conditioned on `{self.key}`, which has no value of that name; give "
            "a number"
        )

    def fit(self, data: ImageDataModule) -> None:
        """Copy what the condition needs from the data, before the training; most conditions need nothing.

        Args:
            data: the training data, after `setup`.

        Raises:
            UserError: the rows have another shape than the condition.
        """

    def preview(self, batch: Mapping[str, Tensor]) -> Tensor | None:
        """Return what is shown next to each generated image in a sample grid; None for nothing.

        Args:
            batch: the rows that the images were generated from.

        Returns:
            [B, C, H, W] in [-1, 1], or None.
        """
        return None

    def labels(self, batch: Mapping[str, Tensor], classes: Sequence[str]) -> list[str]:
        """Return what is written on each generated image of a sample grid; an empty list for nothing.

        Args:
            batch: the rows that the images were generated from.
            classes: names of the classes in the data of the training.

        Returns:
            A text for each image, or [].
        """
        return []


class Label(Condition):
    """A class as a one-hot vector; zeros for an unlabelled image, whose label is -1.

    Args:
        width: the number of classes.

    Reference: Mirza 2014, arXiv:1411.1784.
    """

    key = "label"
    one_hot: Tensor  # [width, width], the vector of each class

    def __init__(self, width: PositiveInt) -> None:
        super().__init__()
        self.width = self.classes = width
        self.register_buffer("one_hot", torch.eye(width), persistent=False)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        label = batch[self.key]
        return self.one_hot[label.clamp(min=0)] * (label >= 0)[:, None]

    def sample(self, count: int) -> Tensor:
        return self.rows_at(torch.arange(count))

    def rows_at(self, numbers: Tensor) -> Tensor:
        return numbers % self.width

    def from_index(self, index: int, count: int) -> Tensor:
        if not 0 <= index < self.width:
            raise UserError(f"condition={index}: the classes of this checkpoint are 0 to {self.width - 1}")
        return torch.full((count,), index)

    def labels(self, batch: Mapping[str, Tensor], classes: Sequence[str]) -> list[str]:
        return [classes[label] if 0 <= label < len(classes) else str(label) for label in batch[self.key].tolist()]


class Vector(Condition):
    """A row of numbers for each image: attributes, features, or an embedded caption; y is the row itself.

    Samples are conditioned on 256 rows that were drawn from the data before the training.

    Args:
        key: the name of the row in the batch.
        width: the length of the row.
    """

    stored_rows: Tensor  # [STORED_ROWS, width], rows of the data

    def __init__(self, key: str, width: PositiveInt) -> None:
        super().__init__()
        self.key, self.width = key, width
        self.register_buffer("stored_rows", torch.zeros(STORED_ROWS, width))

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return batch[self.key].to(self.stored_rows.dtype)

    def sample(self, count: int) -> Tensor:
        return self.rows_at(torch.arange(count))

    def rows_at(self, numbers: Tensor) -> Tensor:
        return self.stored_rows.cpu()[numbers % STORED_ROWS]

    def from_index(self, index: int, count: int) -> Tensor:
        if not 0 <= index < STORED_ROWS:
            raise UserError(f"condition={index}: the checkpoint has {STORED_ROWS} rows of {self.key}, from 0 on")
        return self.stored_rows.cpu()[index].expand(count, -1)

    def fit(self, data: ImageDataModule) -> None:
        rows = data.column(self.key, random_rows(data.count, STORED_ROWS))
        if rows.dim() != 2 or rows.shape[1] != self.width:
            raise UserError(
                f"{self.key}: {self.width} numbers for each image are expected, the data have {list(rows.shape[1:])}"
                + (f": model.game.condition.width={rows.shape[1]}" if rows.dim() == 2 else "")
            )
        self.stored_rows.copy_(rows)


class Picture(Condition):
    """A picture for each image, which the generator translates; y is the picture itself.

    Samples are made from 64 pictures that were drawn from the data before the training, and are stored as bytes.

    Args:
        channels: of the pictures, [B, channels, H, W] in [-1, 1].
        size: of the pictures, in pixels.

    Reference: Isola 2016, arXiv:1611.07004, section 3.
    """

    key = "input"
    stored_rows: Tensor  # [STORED_PICTURES, channels, H, W] uint8, pictures of the data

    def __init__(self, channels: PositiveInt, size: Size) -> None:
        super().__init__()
        self.width = channels
        pictures = torch.zeros(STORED_PICTURES, channels, *height_width(size), dtype=torch.uint8)
        self.register_buffer("stored_rows", pictures)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return batch[self.key]

    def sample(self, count: int) -> Tensor:
        return self.rows_at(torch.arange(count))

    def rows_at(self, numbers: Tensor) -> Tensor:
        return from_bytes(self.stored_rows.cpu()[numbers % STORED_PICTURES])

    def from_index(self, index: int, count: int) -> Tensor:
        if not 0 <= index < STORED_PICTURES:
            raise UserError(f"condition={index}: the checkpoint has {STORED_PICTURES} pictures, from 0 on")
        return from_bytes(self.stored_rows.cpu()[index]).expand(count, -1, -1, -1)

    def fit(self, data: ImageDataModule) -> None:
        rows = random_rows(data.count, STORED_PICTURES)
        self.stored_rows.copy_(to_bytes(data.batch(rows)[self.key]))

    def preview(self, batch: Mapping[str, Tensor]) -> Tensor:
        return batch[self.key]


def random_rows(count: int, needed: int) -> Tensor:
    """Return random row numbers, the same in each run.

    Args:
        count: the number of rows of the data.
        needed: how many row numbers to return; they repeat in the same order if there are fewer rows.

    Returns:
        [needed] int64.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return order[torch.arange(needed) % count]

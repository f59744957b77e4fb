"""Files of samples, written batch by batch, so that any number of images needs the memory of one batch."""

import csv
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np
from PIL import Image
from torch import Tensor

from oakleaf.errors import UserError
from oakleaf.image_grid import are_points, to_bytes
from oakleaf.runtime.run_dir import atomic_write
from oakleaf.sampling.stored import sample_rows

ARRAY, LABELS = "samples.npy", "labels.csv"


class Label(NamedTuple):
    """What a sample is conditioned on.

    Attributes:
        number: of the class; None for a text.
        text: name of the class, or the text.
    """

    number: int | None
    text: str


class SampleFiles(ABC):
    """A way to store samples in a folder."""

    @abstractmethod
    def add(self, images: Tensor, names: Sequence[str], labels: Sequence[Label]) -> None:
        """Write a batch.

        Args:
            images: [B, C, H, W] in [-1, 1], or points [B, d, 1, 1].
            names: file names without ending, one for each image.
            labels: of each image; empty if they have none.
        """

    @contextmanager
    @abstractmethod
    def opened(self, folder: Path, data: Mapping[str, Any]) -> Iterator[Self]:
        """Open the files below a folder; they are complete when the block has ended without an error.

        Args:
            folder: where the files are written.
            data: the node `data` of the run's configuration, which knows the values of the pictures.
        """

    @abstractmethod
    def written(self) -> list[str]:
        """Return what was written, for a message."""


class Npy(SampleFiles):
    """One array, `samples.npy`: uint8 [N, H, W, C] for images, float32 [N, d] for points (`sample_rows`)."""

    def __init__(self) -> None:
        self.rows, self.shape, self.dtype = 0, (0,), np.dtype(np.uint8)

    @contextmanager
    def opened(self, folder: Path, data: Mapping[str, Any]) -> Iterator[Self]:
        self.path, self.data = folder / ARRAY, data
        with atomic_write(self.path) as part, part.open("wb") as self.file:
            yield self
            self.file.seek(0)
            self._write_header(self.file)

    def add(self, images: Tensor, names: Sequence[str], labels: Sequence[Label]) -> None:
        rows = sample_rows(images, self.data)
        if not self.rows:
            self.shape, self.dtype = rows.shape[1:], rows.dtype
            self._write_header(self.file)
        self.file.write(rows.data)
        self.rows += len(rows)

    def _write_header(self, file: BinaryIO) -> None:
        """Write the header; NumPy leaves room in it for a larger number of rows.

        It is not np.save that writes, because its own error for a full disk has no error number.
        """
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.rows, *self.shape)}
        np.lib.format.write_array_header_1_0(file, header)  # type: ignore[arg-type]

    def written(self) -> list[str]:
        return [str(self.path)]


class Png(SampleFiles):
    """A PNG file for each image, in a folder for each class if there are classes, and the labels in `labels.csv`.

    Grey pictures of 16 bits keep them; PNG files of colours have 8 bits.
    """

    def __init__(self) -> None:
        self.count = 0
        self.labels: list[tuple[str, str, str]] = []  # path below the folder, number and text

    @contextmanager
    def opened(self, folder: Path, data: Mapping[str, Any]) -> Iterator[Self]:
        self.folder, self.data = folder, data
        yield self
        if self.labels:
            with atomic_write(folder / LABELS) as part, part.open("w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([("file", "number", "label"), *self.labels])

    def add(self, images: Tensor, names: Sequence[str], labels: Sequence[Label]) -> None:
        if are_points(images) or images.shape[1] not in (1, 3, 4):
            kind = "points" if are_points(images) else f"images of {images.shape[1]} channels"
            raise UserError(f"format=png: {kind} are no pictures; format=npy")
        for i, (image, name) in enumerate(zip(self._pixels(images), names)):
            file = f"{name}.png"
            if labels:
                number, text = labels[i]
                file = f"{class_folder(number, text)}/{file}" if number is not None else file
                self.labels.append((file, "" if number is None else str(number), text))
            self._write(Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image), self.folder / file)
        self.count += len(images)

    def _pixels(self, images: Tensor) -> np.ndarray:
        """Return images as pixels, [B, H, W, C]: uint8, or uint16 for grey pictures of 16 bits."""
        rows = sample_rows(images, self.data)
        if rows.dtype == np.uint8 or (rows.dtype == np.uint16 and images.shape[1] == 1):
            return rows
        return to_bytes(images).permute(0, 2, 3, 1).numpy()

    def _write(self, image: Image.Image, path: Path) -> None:
        coded = io.BytesIO()
        image.save(coded, "PNG")
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as part:
            part.write_bytes(coded.getbuffer())

    def written(self) -> list[str]:
        return [f"{self.count:,} PNG files in {self.folder}/", *([str(self.folder / LABELS)] if self.labels else [])]


def class_folder(number: int, name: str) -> str:
    """Return the folder of a class: its number, so that no two are the same, and what of its name is safe in a path."""
    safe = re.sub(r"[^\w.+-]+", "_", name).strip("._")[:60]
    return f"{number}-{safe}" if safe and safe != str(number) else str(number)

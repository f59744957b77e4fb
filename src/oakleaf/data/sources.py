"""The interface of a source of pictures, and the sources that are held in memory (scikit-learn and torchvision sets).

A source knows its pictures by number: their names, their labels, and how to read one. Nothing is decoded before it is
read. Sources on disk are in `folder`, `celeba`, `utkface`, `pairs` and `captions`.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from oakleaf.config.types import PositiveInt
from oakleaf.data.pictures import Picture
from oakleaf.errors import UserError, first_line

NAMED_CLASSES = 12  # in a summary


class Source(ABC):
    """Numbered pictures with labels.

    Attributes:
        labels: the label rows by the name of their key in a batch, one row for each picture: `label` [N] int64, where
            -1 means unlabelled; `attributes` [N, K]; `caption` [N, L]; ...
        classes: the names of the values of `label`, of the columns of `attributes`, or of the words of `caption`.
        inputs: a second source, of the pictures that an image-to-image generator translates from; None without.
        pairs: whether picture number i of `inputs` belongs to picture number i of this source.
        mixes: whether neighbouring pixels may be averaged when a picture is resized. False where colours stand for
            classes, because an average of two class colours is no class.
        upscale: whether a picture smaller than the configured size is enlarged; otherwise it is an error.
        unlabelled_reason: why there are no labels, for the message to a user who needs them.
        cache: the folder where the source may keep what it computed about its files; None: nowhere.
    """

    labels: dict[str, np.ndarray]
    classes: Sequence[str] = ()
    inputs: "Source | None" = None
    pairs = True
    mixes = True
    upscale = True
    unlabelled_reason = ""
    cache: Path | None = None

    def summary(self) -> str:
        """Return what was understood of the pictures, as `46 pictures (40 PNG, 6 JPEG), 2 classes: cat 20, dog 26`."""
        formats = self.formats()
        text = f"{len(self):,} {'picture' if len(self) == 1 else 'pictures'}" + (f" ({formats})" if formats else "")
        label = self.labels.get("label")
        if label is None or not len(self.classes):
            return text
        counts = np.bincount(label[label >= 0], minlength=len(self.classes))
        named = ", ".join(f"{name} {count:,}" for name, count in zip(self.classes[:NAMED_CLASSES], counts))
        more = ", ..." if len(self.classes) > NAMED_CLASSES else ""
        without = int((label < 0).sum())
        unlabelled = f"; {without:,} without a class" if without else ""
        return f"{text}, {len(self.classes):,} classes: {named}{more}{unlabelled}"

    def formats(self) -> str:
        """Return how many pictures there are of each file format; empty if they are no files."""
        return ""

    def complete(self) -> None:  # noqa: B027, most sources list only files that exist
        """Check that every picture that the data set lists is available.

        Raises:
            UserError: a listed picture is missing.
        """

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of pictures."""

    @abstractmethod
    def read(self, index: int) -> Picture:
        """Open a picture as it is stored, in any size and mode: Pillow's, or an array [H, W, C] of any type.

        Args:
            index: the number of the picture.

        Raises:
            OSError, ValueError, ...: PIL's or the system's own error if the picture cannot be read; see
                `decoding.UNREADABLE`.
        """

    @abstractmethod
    def name(self, index: int) -> str:
        """Return the name of a picture for messages, usually its path."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """A hash of the content of all pictures, which is part of the key of the decoded-image cache."""


class Arrays(Source):
    """Pictures in memory.

    Args:
        images: [N, H, W] or [N, H, W, 3] uint8.
        label: [N], the class number of each picture.
        classes: the names of the classes.
    """

    def __init__(self, images: np.ndarray, label: np.ndarray, classes: Sequence[str]) -> None:
        self.images, self.classes = images, classes
        self.labels = {"label": label.astype(np.int64)}

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> Image.Image:
        return Image.fromarray(self.images[index])

    def name(self, index: int) -> str:
        return f"image {index}"

    @cached_property
    def digest(self) -> str:
        return hashlib.blake2b(np.ascontiguousarray(self.images).data, digest_size=16).hexdigest()


def digits(root: Path) -> Source:
    """Load scikit-learn's 1,797 handwritten digits, 8 x 8, grey; they are bundled and need no download.

    The table is read from scikit-learn's file, because importing scikit-learn takes longer than importing torch.

    Args:
        root: not used; every source takes a root.

    Reference: Alpaydin & Kaynak 1998, UCI.
    """
    (package,) = find_spec("sklearn").submodule_search_locations  # type: ignore[union-attr, misc]
    table = np.loadtxt(Path(package) / "datasets" / "data" / "digits.csv.gz", dtype=np.uint8, delimiter=",")
    images = np.round(table[:, :64].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # the file has greys from 0 to 16
    return Arrays(images, table[:, 64], [str(digit) for digit in range(10)])


def torchvision_set(
    root: Path,
    name: Literal["MNIST", "FashionMNIST", "CIFAR10"],
    split: Literal["train", "test"] = "train",
    first: PositiveInt | None = None,
) -> Source:
    """Load one of torchvision's labelled data sets, and download it if it is missing.

    Args:
        root: the folder that holds the data set in torchvision's layout, and that a download is written to.
        name: the name of the data set.
        split: the training or the test part.
        first: take only this many pictures, in the original order; null takes all.

    Raises:
        UserError: the data set is missing and the download fails; torch and torchvision do not fit together.
    """
    try:
        from torchvision import datasets
    except (RuntimeError, ImportError, OSError) as error:
        raise UserError(
            f"torchvision does not fit this torch ({first_line(error)}); install both from the same place: "
            "pip install --force-reinstall torch torchvision"
        ) from error
    dataset_class: Any = getattr(datasets, name)
    try:
        dataset = dataset_class(root, train=split == "train", download=False)
    except RuntimeError:  # torchvision's "not found or corrupted"
        try:
            dataset = dataset_class(root, train=split == "train", download=True)
        except Exception as error:
            raise UserError(
                f"{name} is not in {root}/ and could not be downloaded ({first_line(error)}). "
                f"Put its files there as torchvision lays them out ({_layout(name)}), or name the folder that has "
                "them: data.root=FOLDER"
            ) from error
    return Arrays(np.asarray(dataset.data)[:first], np.asarray(dataset.targets)[:first], list(dataset.classes))


def _layout(name: str) -> str:
    """The path of a typical file of the data set below its root."""
    return "cifar-10-batches-py/data_batch_1 ..." if name == "CIFAR10" else f"{name}/raw/train-images-idx3-ubyte ..."

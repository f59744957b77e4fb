"""Where images come from. A source knows its images by number: names, labels, and how to read one; nothing is decoded
until it is asked for.
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
from oakleaf.errors import UserError, first_line


class Source(ABC):
    """Images by number, with labels.

    labels: by the name of the batch's key, one row an image: `label` [N] int64, -1 = unlabelled; `attributes` [N, K].
    classes: what the numbers in `label` (or the columns of `attributes`) are called.
    inputs: what the images are to be made from, in translation: another source, number by number where the set is of
    pairs, which `pairs` says. mixes: whether neighbouring pixels may be mixed when an image is cut to size: not where
    colours are classes.
    """

    labels: dict[str, np.ndarray]
    classes: Sequence[str] = ()
    inputs: "Source | None" = None
    pairs = True
    mixes = True
    upscale = True  # whether an image smaller than wanted may be enlarged

    def complete(self) -> None:  # noqa: B027, most name nothing besides
        """Raises:
        UserError: something that the set names is not there.
        """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> Image.Image:
        """The image as it was stored, any size and mode; PIL's or the system's error if it can't be read."""

    @abstractmethod
    def name(self, index: int) -> str:
        """What to call the image in a message."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """A hash of all the images' content."""


class Arrays(Source):
    """Images in memory, [N, H, W] or [N, H, W, 3] uint8."""

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
    """scikit-learn's 1,797 handwritten digits, 8 x 8, grey 0 to 16 (Alpaydin & Kaynak 1998, UCI); no download. From its
    file, as importing it takes longer than importing torch.
    """
    (package,) = find_spec("sklearn").submodule_search_locations  # type: ignore[union-attr, misc]
    table = np.loadtxt(Path(package) / "datasets" / "data" / "digits.csv.gz", dtype=np.uint8, delimiter=",")
    images = np.round(table[:, :64].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return Arrays(images, table[:, 64], [str(digit) for digit in range(10)])


def torchvision_set(
    root: Path,
    name: Literal["MNIST", "FashionMNIST", "CIFAR10"],
    split: Literal["train", "test"] = "train",
    first: PositiveInt | None = None,
) -> Source:
    """One of torchvision's labelled sets below `root`, downloaded there if it is missing and the network allows; of it
    the `first` so many images, in the original order, or all.
    """
    from torchvision import datasets

    kind: Any = getattr(datasets, name)
    try:
        found = kind(root, train=split == "train", download=False)
    except RuntimeError:  # torchvision's "not found or corrupted"
        try:
            found = kind(root, train=split == "train", download=True)
        except Exception as error:
            raise UserError(
                f"{name} is not in {root}/ and could not be downloaded ({first_line(error)}). "
                f"Put its files there as torchvision lays them out ({_layout(name)}), or name the folder that has "
                "them: data.root=FOLDER"
            ) from error
    return Arrays(np.asarray(found.data)[:first], np.asarray(found.targets)[:first], list(found.classes))


def _layout(name: str) -> str:
    return "cifar-10-batches-py/data_batch_1 ..." if name == "CIFAR10" else f"{name}/raw/train-images-idx3-ubyte ..."

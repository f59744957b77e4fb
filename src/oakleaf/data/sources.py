"""Where images come from. A source knows its images by number: names, labels, and how to read one; nothing is decoded
until it is asked for.
"""

import csv
import hashlib
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from oakleaf.errors import Mistake
from oakleaf.numbers import Count

log = logging.getLogger(__name__)

EXTENSIONS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif"}


class Source(ABC):
    """Images by number, with labels.

    labels: by the name of the batch's key, one row an image: `label` [N] int64, -1 = unlabelled; `attributes` [N, K].
    classes: what the numbers in `label` (or the columns of `attributes`) are called.
    """

    labels: dict[str, np.ndarray]
    classes: Sequence[str] = ()
    upscale = True  # whether an image smaller than wanted may be enlarged

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
    """scikit-learn's 1,797 handwritten digits, 8 x 8, grey 0 to 16 (Alpaydin & Kaynak 1998, UCI); no download."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    return Arrays(images, bunch.target, [str(digit) for digit in range(10)])


def torchvision_set(
    root: Path,
    name: Literal["MNIST", "FashionMNIST", "CIFAR10"],
    split: Literal["train", "test"] = "train",
    first: Count | None = None,
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
            raise Mistake(
                f"{name} is not in {root}/ and could not be downloaded ({_first_line(error)}). "
                f"Put its files there as torchvision lays them out ({_layout(name)}), or name the folder that has "
                "them: data.root=FOLDER"
            ) from error
    return Arrays(np.asarray(found.data)[:first], np.asarray(found.targets)[:first], list(found.classes))


def _layout(name: str) -> str:
    return "cifar-10-batches-py/data_batch_1 ..." if name == "CIFAR10" else f"{name}/raw/train-images-idx3-ubyte ..."


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class Folder(Source):
    """All pictures below a folder, in the order of their paths.

    labels = folders: the first folder below root is the class, where every picture lies in one; none: no labels.
    upscale: take pictures smaller than data.size instead of refusing them.
    """

    def __init__(self, root: Path, labels: Literal["folders", "none"] = "folders", upscale: bool = False) -> None:
        self.root, self.upscale = root, upscale
        self.files = find_pictures(root)
        self.labels = {}
        if labels == "folders":
            tops = [file.relative_to(root).parts[0] for file in self.files]
            classes = sorted(set(tops))
            if len(classes) > 1 and all(file.parent != root for file in self.files):
                self.classes = classes
                number = {top: i for i, top in enumerate(self.classes)}
                self.labels = {"label": np.array([number[top] for top in tops])}

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> Image.Image:
        return Image.open(self.files[index])

    def name(self, index: int) -> str:
        return str(self.files[index])

    @cached_property
    def digest(self) -> str:
        def of(file: Path) -> bytes:
            try:
                return hashlib.blake2b(file.read_bytes(), digest_size=16).digest()
            except OSError:  # told by name when it is to be decoded
                return b"unreadable"

        total = hashlib.blake2b(digest_size=16)
        with ThreadPoolExecutor(16) as pool:
            for file, content in zip(self.files, pool.map(of, self.files, chunksize=256)):
                total.update(os.fsencode(file.relative_to(self.root)) + b"\0" + content)
        return total.hexdigest()


def find_pictures(root: Path) -> list[Path]:
    """All pictures below a folder, hidden ones left out.

    Raises:
        Mistake: no such folder, or no picture in it.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise Mistake(f"{root} {what}; a folder of pictures is expected there. Name yours: data.root=FOLDER")
    files = sorted(path for path in _walk(root) if path.suffix.lower() in EXTENSIONS and path.is_file())
    if not files:
        raise Mistake(
            f"{root} holds no pictures ({', '.join(sorted(EXTENSIONS))}), not even in folders below it. "
            "Name the folder that does: data.root=FOLDER"
        )
    return files


def _walk(root: Path) -> Iterator[Path]:
    """Files below a folder and below folders that are linked there, each real folder once, none that is hidden."""
    seen: set[str] = set()
    for folder, inner, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        inner[:] = [] if real in seen else [name for name in inner if not name.startswith(".")]
        if real not in seen:
            yield from (Path(folder) / name for name in names if not name.startswith("."))
        seen.add(real)


class CelebA(Folder):
    """CelebA's aligned faces with their 40 attributes. Liu 2015, arXiv:1411.7766.

    root holds `img_align_celeba/` (Kaggle's folder in a folder too), and, where they are there, `list_attr_celeba` and
    `list_eval_partition` as .txt or .csv. Any part of the set is welcome. split = all needs no partition.
    """

    PARTITIONS = {"train": "0", "valid": "1", "test": "2"}

    def __init__(self, root: Path, split: Literal["all", "train", "valid", "test"] = "all") -> None:
        pictures = root / "img_align_celeba"
        if not pictures.is_dir():
            raise Mistake(
                f"{root} is not CelebA: expected {pictures}/ with the aligned faces, and beside it "
                "list_attr_celeba.txt. Get them from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, and name the "
                "folder that has them: data.root=FOLDER"
            )
        super().__init__(pictures, labels="none")
        if split != "all":
            parts = _table(root, "list_eval_partition")
            if parts is None:
                raise Mistake(
                    f"data.source.split={split}: {root}/list_eval_partition.txt is missing; split=all needs none"
                )
            wanted = self.PARTITIONS[split]
            self.files = [file for file in self.files if parts[1].get(file.name, [""])[0] == wanted]
            if not self.files:
                raise Mistake(f"data.source.split={split}: none of the faces in {pictures} belong to that part")
        attributes = _table(root, "list_attr_celeba")
        if attributes is None:
            return
        self.classes, rows = attributes
        lacking = [file.name for file in self.files if len(rows.get(file.name, [])) != len(self.classes)]
        if lacking:
            log.warning("no attributes: list_attr_celeba lacks %d faces, the first: %s", len(lacking), lacking[0])
            return
        try:
            table = np.array([rows[file.name] for file in self.files], dtype=np.int64)
        except ValueError as error:
            raise Mistake(f"{root}/list_attr_celeba: attributes are 1 or -1 ({error})") from error
        self.labels = {"attributes": (table > 0).astype(np.int64)}


def _table(root: Path, stem: str) -> tuple[list[str], dict[str, list[str]]] | None:
    """One of CelebA's tables as (columns, rows by file name): the official .txt, or Kaggle's .csv; None if neither."""
    text, comma = root / f"{stem}.txt", root / f"{stem}.csv"
    if text.is_file():
        lines = [line.split() for line in text.read_text().splitlines() if line.strip()]
        if lines and len(lines[0]) == 1 and lines[0][0].isdigit():  # the attribute file opens with a count and names
            return lines[1], {row[0]: row[1:] for row in lines[2:]}
        return [], {row[0]: row[1:] for row in lines}
    if comma.is_file():
        with comma.open(newline="") as file:
            header, *rows = [row for row in csv.reader(file) if row] or [[""]]
        return header[1:], {row[0]: row[1:] for row in rows}
    return None

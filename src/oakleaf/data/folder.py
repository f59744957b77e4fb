"""Pictures in a folder on disk: finding them, their classes and their train/test split."""

import hashlib
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from oakleaf.data.pictures import Picture, open_picture
from oakleaf.data.sources import Source
from oakleaf.errors import UserError

EXTENSIONS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif"}
TEST_EVERY = 10  # every tenth picture belongs to the test split
Split = Literal["all", "train", "test"]


class Folder(Source):
    """All pictures below a folder, in the order of their paths.

    Args:
        root: the folder; folders below it are searched too, hidden ones are not.
        labels: "folders": the first folder below `root` is the class of a picture, provided that there are two or more
            and that no picture lies directly in `root`. "none": no labels.
        upscale: enlarge pictures smaller than `data.size`; otherwise such a picture is an error.
        split: "test" is every tenth picture, "train" are the others, "all" is all of them.

    Attributes:
        files: the path of each picture.

    Raises:
        UserError: the folder does not exist or holds no picture, or a single picture is to be split.
    """

    def __init__(
        self,
        root: Path,
        labels: Literal["folders", "none"] = "folders",
        upscale: bool = False,
        split: Split = "all",
    ) -> None:
        self.root, self.upscale = root, upscale
        self.files = find_pictures(root)
        class_number = self._class_numbers() if labels == "folders" else {}  # before the split: the same in each split
        self.select_split(split)
        self.classes = list(class_number)
        if class_number:
            self.labels = {"label": np.array([class_number[self._top_folder(file)] for file in self.files])}
        else:
            self.labels = {}

    def _class_numbers(self) -> dict[str, int]:
        """The number of each class by its name; empty unless there are two classes and each picture is in a folder."""
        names = sorted({self._top_folder(file) for file in self.files}, key=_natural_sort_key)
        any_in_root = any(file.parent == self.root for file in self.files)
        return {name: i for i, name in enumerate(names)} if len(names) > 1 and not any_in_root else {}

    def _top_folder(self, file: Path) -> str:
        return file.relative_to(self.root).parts[0]

    def select_split(self, split: Split) -> None:
        """Keep only the files of one split.

        Args:
            split: as for the class.

        Raises:
            UserError: there is a single picture, so that the training split would be empty.
        """
        if split != "all":
            self.files = [file for i, file in enumerate(self.files) if (i % TEST_EVERY == 0) == (split == "test")]
            if not self.files:
                raise UserError(f"{self.root}: a single picture can't be split into data.source.split=train and test")

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> Picture:
        return open_picture(self.files[index])

    def name(self, index: int) -> str:
        return str(self.files[index])

    @cached_property
    def digest(self) -> str:
        total = hashlib.blake2b(digest_size=16)
        chunks = [self.files[i : i + 256] for i in range(0, len(self.files), 256)]
        with ThreadPoolExecutor(4) as pool:  # more threads are no faster on a local disk, as they wait for each other
            for files, hashes in zip(chunks, pool.map(_content_hashes, chunks)):
                for file, content_hash in zip(files, hashes):
                    total.update(os.fsencode(file.relative_to(self.root)) + b"\0" + content_hash)
        return total.hexdigest()


def _natural_sort_key(name: str) -> list[tuple[int, str]]:
    """A key that sorts 2 before 10."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if number % 2 else (0, part) for number, part in enumerate(parts)] + [(0, name)]


def _content_hashes(files: list[Path]) -> list[bytes]:
    def content_hash(file: Path) -> bytes:
        try:
            return hashlib.blake2b(file.read_bytes(), digest_size=16).digest()
        except OSError:  # the decoder reports the file by its name
            return b"unreadable"

    return [content_hash(file) for file in files]


def find_pictures(root: Path, key: str = "data.root") -> list[Path]:
    """List all pictures below a folder, sorted by path, without hidden ones.

    Args:
        root: the folder.
        key: the option that named the folder, for the error message.

    Raises:
        UserError: the folder does not exist, or there is no picture in it.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise UserError(f"{root} {what}; a folder of pictures is expected there. Name yours: {key}=FOLDER")
    files = sorted(path for path in _walk(root) if path.suffix.lower() in EXTENSIONS and path.is_file())
    if not files:
        raise UserError(
            f"{root} holds no pictures ({', '.join(sorted(EXTENSIONS))}), not even in folders below it. "
            f"Name the folder that does: {key}=FOLDER"
        )
    return files


def find_files(root: Path) -> list[Path]:
    """List all files below a folder, sorted by path, without hidden ones."""
    return sorted(path for path in _walk(root) if path.is_file())


def _walk(root: Path) -> Iterator[Path]:
    """The files below a folder, without hidden ones. Links are followed, and each real folder is visited once."""
    visited: set[str] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        subfolders[:] = [] if real in visited else [name for name in subfolders if not name.startswith(".")]
        if real not in visited:
            yield from (Path(folder) / name for name in names if not name.startswith("."))
        visited.add(real)

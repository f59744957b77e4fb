"""Pictures in a folder."""

import hashlib
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from oakleaf.data.sources import Source
from oakleaf.errors import UserError

EXTENSIONS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif"}
TENTH = 10  # one picture of so many is held out
Split = Literal["all", "train", "test"]


class Folder(Source):
    """All pictures below a folder, in the order of their paths.

    labels = folders: the first folder below root is the class, where every picture lies in one; none: no labels.
    upscale: take pictures smaller than data.size instead of refusing them.
    split: test = every tenth picture; train = the others; all = all.
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
        number = self._classes() if labels == "folders" else {}  # those of all splits, so that a number means one class
        self.keep(split)
        self.classes = list(number)
        self.labels = {"label": np.array([number[self._top(file)] for file in self.files])} if number else {}

    def _classes(self) -> dict[str, int]:
        """The number of each class by its name; none if there are no two, or a picture lies in no folder."""
        tops = sorted({self._top(file) for file in self.files}, key=_natural)
        alone = any(file.parent == self.root for file in self.files)
        return {top: i for i, top in enumerate(tops)} if len(tops) > 1 and not alone else {}

    def _top(self, file: Path) -> str:
        return file.relative_to(self.root).parts[0]

    def keep(self, split: Split) -> None:
        """Raises:
        UserError: of a single picture nothing is left to learn from.
        """
        if split != "all":
            self.files = [file for i, file in enumerate(self.files) if (i % TENTH == 0) == (split == "test")]
            if not self.files:
                raise UserError(f"{self.root}: a single picture can't be split into data.source.split=train and test")

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> Image.Image:
        return Image.open(self.files[index])

    def name(self, index: int) -> str:
        return str(self.files[index])

    @cached_property
    def digest(self) -> str:
        total = hashlib.blake2b(digest_size=16)
        parts = [self.files[i : i + 256] for i in range(0, len(self.files), 256)]
        with ThreadPoolExecutor(4) as pool:  # more of them wait for each other, unless the disk is far away
            for part, contents in zip(parts, pool.map(_contents, parts)):
                for file, content in zip(part, contents):
                    total.update(os.fsencode(file.relative_to(self.root)) + b"\0" + content)
        return total.hexdigest()


def _natural(name: str) -> list[tuple[int, str]]:
    """By which 2 comes before 10, as people count."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if number % 2 else (0, part) for number, part in enumerate(parts)] + [(0, name)]


def _contents(files: list[Path]) -> list[bytes]:
    def of(file: Path) -> bytes:
        try:
            return hashlib.blake2b(file.read_bytes(), digest_size=16).digest()
        except OSError:  # told by name when it is to be decoded
            return b"unreadable"

    return [of(file) for file in files]


def find_pictures(root: Path, key: str = "data.root") -> list[Path]:
    """All pictures below a folder, hidden ones left out. key: the option that names the folder.

    Raises:
        UserError: no such folder, or no picture in it.
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


def _walk(root: Path) -> Iterator[Path]:
    """Files below a folder and below folders that are linked there, each real folder once, none that is hidden."""
    seen: set[str] = set()
    for folder, inner, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        inner[:] = [] if real in seen else [name for name in inner if not name.startswith(".")]
        if real not in seen:
            yield from (Path(folder) / name for name in names if not name.startswith("."))
        seen.add(real)

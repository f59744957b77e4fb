"""Pictures in a folder on disk or in a ZIP archive: finding them, their classes and their train/test split."""

import hashlib
import logging
import re
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from oakleaf.data.label_table import labels_of, read_label_table
from oakleaf.data.listing import Archive, Listing, list_pictures
from oakleaf.data.manifest import content_digest
from oakleaf.data.pictures import Picture, open_picture
from oakleaf.data.sources import Source
from oakleaf.errors import UserError

log = logging.getLogger(__name__)

TEST_EVERY = 10  # every tenth picture belongs to the test split
MOST_STRAY = 0.1  # of the pictures may lie beside the class folders
SPLITS = {
    "train": "train", "training": "train", "trn": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val", "eval": "val", "evaluation": "val",
    "test": "test", "testing": "test", "tst": "test", "holdout": "test", "heldout": "test",
}  # fmt: skip
AFTER_SPLIT = re.compile(r"[ _-]?(sets?|data|split|images?|imgs?|pictures|photos)?[ _-]?[0-9]*$")
Split = Literal["all", "train", "val", "test"]


class Folder(Source):
    """All pictures below a folder, or in a ZIP archive, in the order of their paths.

    Folders named train, val and test (training, valid, validation, dev, eval, testing, holdout, and with an ending as
    in test_set, train2017) are splits: the first folders, or those in each class folder. The training is then on the
    pictures in train alone. Other folders beside them are left out. A single folder that holds all others is passed
    through.

    Args:
        root: the folder, or a ZIP archive; folders below it are searched too, hidden ones are not.
        labels: "folders": the first folder below `root` (or below a split) is the class of a picture, if there are two
            or more. A tenth of the pictures at most may lie beside these folders; they have no label. "none": no
            labels. Otherwise a CSV or JSON file with the label of each picture; see `label_table`.
        upscale: enlarge pictures smaller than `data.size`; otherwise such a picture is an error.
        split: with folders of that name: theirs, and "all" is train. Without: "test" is every tenth picture, "train"
            are the others, "all" is all of them.

    Attributes:
        files: the path of each picture.
        split: the split, after "all" was decided.
        listing: all pictures and what was passed over.

    Raises:
        UserError: the folder does not exist or holds no picture, there is no such split, or the file of labels cannot
            be read or names none of the pictures.
    """

    archive: Archive | None = None
    listing: Listing | None = None  # None where the subclass lists the files itself

    def __init__(
        self,
        root: Path,
        labels: Literal["folders", "none"] | str = "folders",
        upscale: bool = False,
        split: Split = "all",
    ) -> None:
        self.root, self.upscale = root, upscale
        self.listing = listing = list_pictures(root)
        self.files = listing.files
        self.archive = Archive(root) if root.is_file() else None
        self.base = _base(self.files, root)
        self.splits = self._split_folders()
        class_number = self._class_numbers() if labels == "folders" else {}  # before the split: the same in each split
        table = self._table(labels) if labels not in ("folders", "none") else []
        self.select_split(split)
        self.labels = {}
        self.classes = list(class_number)
        if class_number:
            numbers = [class_number.get(self._class_folder(file), -1) for file in self.files]
            self.labels = {"label": np.array(numbers, dtype=np.int64)}
        if table:
            self._set_labels(dict(zip(listing.files, table)))

    # ---- Splits ------------------------------------------------------------------------------------------------------

    def _split_folders(self) -> dict[str, str]:
        """The split that each folder of a level is: the first one below the base, or the second; empty if none is."""
        for self.split_level in (0, 1):
            names = {self._folder(file, self.split_level) for file in self.files} - {""}
            found = {name: split for name in names if (split := split_of(name))}
            splits = set(found.values())
            if "train" in splits and (len(found) == len(names) or (self.split_level == 0 and len(splits) > 1)):
                return found
        return {}

    def _folder(self, file: Path, level: int) -> str:
        """The name of the folder of a file at a level below the base; "" if it lies higher."""
        parts = file.relative_to(self.base).parts
        return parts[level] if len(parts) > level + 1 else ""

    def select_split(self, split: Split) -> None:
        """Keep only the files of one split.

        Args:
            split: as for the class.

        Raises:
            UserError: there is no such split, or a single picture, so that the training split would be empty.
        """
        if self.splits:
            self._select_split_folder(split)
            return
        self.split: Split = split
        if split == "val":
            raise UserError(f"data.source.split=val: there is no folder of that name in {self.base}")
        if split != "all":
            self.files = [file for i, file in enumerate(self.files) if (i % TEST_EVERY == 0) == (split == "test")]
            if not self.files:
                raise UserError(f"{self.root}: a single picture can't be split into data.source.split=train and test")

    def _select_split_folder(self, split: Split) -> None:
        names = ", ".join(sorted(self.splits))
        self.split = "train" if split == "all" else split
        if self.split not in self.splits.values():
            raise UserError(f"data.source.split={split}: the splits in {self.base} are {names}")
        all_files, self.files = (
            self.files,
            [f for f in self.files if self.splits.get(self._folder(f, self.split_level)) == self.split],
        )
        if split == "all":
            others = sorted({self._folder(file, self.split_level) for file in all_files} - {""} - self.splits.keys())
            log.info(
                "%s: the folders %s are splits, and the %d pictures of train are used, of %d%s",
                self.base, names, len(self.files), len(all_files), f"; left out: {', '.join(others)}" if others else "",
            )  # fmt: skip

    # ---- Labels ------------------------------------------------------------------------------------------------------

    def _class_numbers(self) -> dict[str, int]:
        """The number of each class by its name; empty unless there are two classes and few pictures beside them."""
        files = [f for f in self.files if not self.splits or self._folder(f, self.split_level) in self.splits]
        names = sorted({self._class_folder(file) for file in files} - {""}, key=_natural_sort_key)
        stray = [file for file in files if not self._class_folder(file)]
        if len(names) < 2:
            one_class = f"; one class, {names[0]}, is none" if names else ""
            self.unlabelled_reason = f"all pictures are in one folder{one_class}"
            return {}
        if len(stray) > max(1, MOST_STRAY * len(self.files)):
            place = f"beside the folders {', '.join(names[:5])} in {self.base}"
            self.unlabelled_reason = f"{len(stray)} of {len(self.files)} pictures lie {place}"
            log.info("no classes: %s", self.unlabelled_reason)
            return {}
        if stray:
            log.warning(
                "%d %s beside the class folders and no class: %s",
                len(stray), "picture lies" if len(stray) == 1 else "pictures lie", stray[0],
            )  # fmt: skip
        if empty := self._folders_without_pictures(names):
            log.warning(
                "no pictures in %s, so there %s no such class", ", ".join(empty), "is" if len(empty) == 1 else "are"
            )
        return {name: i for i, name in enumerate(names)}

    def _folders_without_pictures(self, names: Collection[str]) -> list[str]:
        """The folders that would be classes, if pictures were in them."""
        if self.archive:
            return []
        splits = [self.base / name for name, split in self.splits.items() if split == "train" and self.split_level == 0]
        places = [path for folder in splits or [self.base] for path in folder.iterdir()]
        return sorted({path.name for path in places if path.is_dir() and path.name[0] != "."} - {*names})

    def _class_folder(self, file: Path) -> str:
        """The name of the class folder of a picture; "" if it lies in none."""
        return self._folder(file, 1 if self.splits and self.split_level == 0 else 0)

    def _table(self, place: str) -> list[str | None]:
        """The label of each picture from a file of labels.

        Raises:
            UserError: the file is missing, or names none of the pictures.
        """
        label_file = self.root / place if self.archive else _existing(self.root, place)
        try:
            content = self.archive.read(label_file) if self.archive else label_file.read_bytes()
        except OSError as error:
            raise UserError(f"data.source.labels={place}: {label_file} can't be read ({error})") from error
        table = read_label_table(content.decode("utf-8", errors="replace"), str(label_file))
        folders = {folder for folder in (self.root, label_file.parent) if self.files[0].is_relative_to(folder)}
        readings = [labels_of(self.files, folder, table) for folder in folders]
        labels, without = min(readings, key=lambda reading: reading[0].count(None))
        unlabelled = labels.count(None)
        if unlabelled == len(labels):
            first = next(iter(table), "nothing")
            raise UserError(
                f"{label_file} names none of the {len(labels)} pictures in {self.root}; it begins with {first}"
            )
        if unlabelled or without:
            log.warning("%s: %d pictures have no label, %d labels have no picture", label_file, unlabelled, without)
        return labels

    def _set_labels(self, table: dict[Path, str | None]) -> None:
        """Number the labels of a table: numbers by their value, texts in natural order."""
        self.classes = sorted({label for label in table.values() if label is not None}, key=_natural_sort_key)
        number = {name: i for i, name in enumerate(self.classes)}
        self.labels = {"label": np.array([number.get(table[file] or "", -1) for file in self.files], dtype=np.int64)}

    # ---- Reading -----------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> Picture:
        file = self.files[index]
        return open_picture(file, self.archive.read(file) if self.archive else None)

    def name(self, index: int) -> str:
        return str(self.files[index])

    def summary(self) -> str:
        return "; ".join(filter(None, [super().summary(), self.listing.passed_over() if self.listing else ""]))

    def formats(self) -> str:
        listing = self.listing
        return listing.formats() if listing and len(self.files) == len(listing.files) else ""

    @cached_property
    def digest(self) -> str:
        if self.archive:
            names = _hash_of_names([file.relative_to(self.root) for file in self.files])
            return f"{content_digest(self.root.parent, [self.root], self.cache)}-{names}"
        return content_digest(self.root, self.files, self.cache)


def split_of(folder: str) -> str | None:
    """Return which split a folder is by its name: "train" of Train, training_set and train2017; None if it is none."""
    name = folder.lower()
    return SPLITS.get(name) or SPLITS.get(AFTER_SPLIT.sub("", name).replace("_", "").replace("-", ""))


def _base(files: Sequence[Path], root: Path) -> Path:
    """The folder below which the files differ: single folders that hold all others are passed through.

    A single folder is kept as the base's child if it holds no folders, since it may be the only class.
    """
    base = root
    while True:
        parts = [file.relative_to(base).parts for file in files]
        if len({part[0] for part in parts}) > 1 or any(len(part) < 3 for part in parts):
            return base
        if split_of(parts[0][0]):
            return base
        base = base / parts[0][0]


def _existing(root: Path, place: str) -> Path:
    """The file of labels: below the root, or where the path says.

    Raises:
        UserError: it is neither here nor there.
    """
    for file in (root / place, Path(place).expanduser()):
        if file.is_file():
            return file
    raise UserError(
        f"data.source.labels={place}: folders, none, or a CSV or JSON file; there is none at {root / place}"
    )


def _hash_of_names(files: Sequence[Path]) -> str:
    return hashlib.blake2b("\0".join(map(str, files)).encode(errors="surrogateescape"), digest_size=8).hexdigest()


def _natural_sort_key(name: str) -> list[tuple[int, str]]:
    """A key that sorts 2 before 10."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if number % 2 else (0, part) for number, part in enumerate(parts)] + [(0, name)]

"""Pictures with captions, and words in place of classes."""

import csv
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np

from oakleaf.config.types import NonNegativeInt
from oakleaf.data.folder import Folder
from oakleaf.errors import UserError
from oakleaf.runtime.seeds import derive_seed

Part = Literal["all", "train", "valid", "test"]
SLICES = 10  # of all groups: two of them test, one validates


class Captions(Folder):
    """The pictures that `root/captions.txt` names, one or more lines `image,caption` for each below a header; they lie
    in root or in `root/images`.

    group: a column of `root/metadata.csv` (beside `image`); pictures of one group are variants of each other and stay
    together in one part. null, or no such file: each picture is a group. fold: which of five divisions into 70 % train,
    10 % valid and 20 % test; the five test parts are disjoint.

    captions: the texts of each picture. attributes [N, V]: which of the known words, those of the training part, are in
    them; their names are `classes`, the most frequent first. told [N]: how many words they have, known or not. group
    [N]: a number for each group.
    upscale: take pictures smaller than data.size instead of refusing them.
    """

    def __init__(
        self, root: Path, split: Part = "all", group: str | None = None, fold: NonNegativeInt = 0, upscale: bool = False
    ) -> None:
        captions = _captions(root / "captions.txt")
        known = group and (root / "metadata.csv").is_file()
        groups = _column(root / "metadata.csv", str(group)) if known else {name: name for name in captions}
        if lacking := [name for name in captions if name not in groups]:
            raise UserError(
                f"{root}/metadata.csv lacks {len(lacking)} pictures of captions.txt, the first: {lacking[0]}"
            )
        parts = {name: split_of(groups[name], fold) for name in captions}
        names = [name for name in captions if split in ("all", parts[name])]
        if not names:
            raise UserError(
                f"data.source.split={split}: none of the {len(captions)} pictures in {root} is in that part"
            )
        words = {name: set(tokenize(" ".join(texts))) for name, texts in captions.items()}
        counts = Counter(word for name in captions if parts[name] == "train" for word in words[name])
        self.root, self.upscale = root, upscale
        folder = root / "images" if (root / "images").is_dir() else root
        self.named = [folder / name for name in captions]
        self.files = [folder / name for name in names]
        self.captions = [captions[name] for name in names]
        self.classes = sorted(counts, key=lambda word: (-counts[word], word))
        self.labels = _rows([words[name] for name in names], self.classes)
        number = {name: i for i, name in enumerate(dict.fromkeys(groups.values()))}
        self.labels["group"] = np.array([number[groups[name]] for name in names])

    def complete(self) -> None:
        """Of all parts, so that none is missed when the run is over and measured."""
        if gone := [file for file in self.named if not file.is_file()]:
            raise UserError(f"{gone[0]}: captions.txt names it, and it is not there ({len(gone)} such)")


def split_of(group: str, fold: int) -> Part:
    """The part that a group belongs to: a function of its name, so pictures that are added move no others."""
    place = (derive_seed("part", group) - 2 * fold) % SLICES
    return "test" if place < 2 else "valid" if place == 2 else "train"


def tokenize(text: str) -> list[str]:
    """The words of a text, in small letters; an accent belongs to its letter, however it was typed."""
    text, marks = unicodedata.normalize("NFC", text).lower(), ""
    if not text.isascii():
        marks = "".join(sorted({re.escape(sign) for sign in text if unicodedata.category(sign).startswith("M")}))
    return re.findall(rf"\w[\w{marks}]*(?:[-'\u2019]\w[\w{marks}]*)*", text)


def _rows(words: list[set[str]], classes: list[str]) -> dict[str, np.ndarray]:
    column = {word: i for i, word in enumerate(classes)}
    told = np.zeros((len(words), len(classes)), dtype=np.uint8)
    for row, some in zip(told, words):
        row[[column[word] for word in some if word in column]] = 1
    return {"attributes": told, "told": np.array([len(some) for some in words])}


def _captions(file: Path) -> dict[str, list[str]]:
    """The captions of each picture."""
    captions: dict[str, list[str]] = {}
    for row in _table(file, "caption"):
        captions.setdefault(row["image"], []).append(row["caption"])
    return captions


def _column(file: Path, name: str) -> dict[str, str]:
    return {row["image"]: row[name] for row in _table(file, name)}


def _table(file: Path, wanted: str) -> list[dict[str, str]]:
    """The rows of a CSV file that has the columns `image` and `wanted`.

    Raises:
        UserError: it has not, or is not there.
    """
    if not file.is_file():
        raise UserError(
            f"{file} is missing: a captioned folder has images/ and captions.txt with lines `image,caption` below that "
            "header, and metadata.csv where data.source.group names a column of it. Name yours: data.root=FOLDER"
        )
    rows = []
    with file.open(newline="", encoding="utf-8-sig") as lines:
        try:
            table = csv.DictReader(lines, skipinitialspace=True, strict=True)
            if missing := {"image", wanted} - set(table.fieldnames or ()):
                raise UserError(f"{file}: its first line names no column {' or '.join(sorted(missing))}")
            for row in table:
                if row.get(None):  # type: ignore[call-overload]
                    raise UserError(f'{file}, line {table.line_num}: more values than columns; a comma needs "quotes"')
                if not row["image"] or row[wanted] is None:
                    raise UserError(
                        f"{file}, line {table.line_num}: a row lacks its {wanted if row['image'] else 'image'}"
                    )
                rows.append(row)
        except UnicodeDecodeError as error:
            raise UserError(f"{file}: is not UTF-8 (byte {error.start}); write it anew in that encoding") from error
        except csv.Error as error:
            raise UserError(f"{file}, line {table.line_num}: {error}") from error
    if not rows:
        raise UserError(f"{file}: no rows")
    return rows

"""CelebA, complete or in part, in the official layout or in Kaggle's."""

import csv
import logging
from pathlib import Path
from typing import Literal

import numpy as np

from oakleaf.data.folder import Folder
from oakleaf.errors import UserError

log = logging.getLogger(__name__)


class CelebA(Folder):
    """The aligned faces of CelebA with their 40 attributes, and the numbers of the persons.

    Any part of the set will do. Without attributes for every face a warning is logged, and there are no attributes. The
    row `identity` is -1 for a face whose person is not known; it is missing without identity_CelebA.

    Args:
        root: the folder that holds `img_align_celeba/` (also as a folder in a folder, as Kaggle has it) and, if
            available, the tables `list_attr_celeba`, `list_eval_partition` and `identity_CelebA`, as .txt or .csv.
        split: the part of the official partition; "all" needs no partition table.

    Raises:
        UserError: there are no faces, none is in the split, or a table is missing or damaged.

    Reference: Liu 2015, arXiv:1411.7766.
    """

    PARTITIONS = {"train": "0", "valid": "1", "test": "2"}

    def __init__(self, root: Path, split: Literal["all", "train", "valid", "test"] = "all") -> None:
        pictures = root / "img_align_celeba"
        if not pictures.is_dir():
            raise UserError(
                f"{root} is not CelebA: expected {pictures}/ with the aligned faces, and beside it "
                "list_attr_celeba.txt. Get them from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, and name the "
                "folder that has them: data.root=FOLDER"
            )
        super().__init__(pictures, labels="none")
        if split != "all":
            partition = _read_table(root, "list_eval_partition")
            if partition is None:
                raise UserError(
                    f"data.source.split={split}: {root}/list_eval_partition.txt is missing; split=all needs none"
                )
            number = self.PARTITIONS[split]
            self.files = [file for file in self.files if partition[1].get(file.name, [""])[0] == number]
            if not self.files:
                raise UserError(f"data.source.split={split}: none of the faces in {pictures} are in that split")
        self._read_identities(root)
        attributes = _read_table(root, "list_attr_celeba")
        if attributes is None:
            return
        self.classes, rows = attributes
        incomplete = [file.name for file in self.files if len(rows.get(file.name, [])) != len(self.classes)]
        if incomplete:
            log.warning("no attributes: list_attr_celeba lacks %d faces, the first: %s", len(incomplete), incomplete[0])
            return
        try:
            table = np.array([rows[file.name] for file in self.files], dtype=np.int64)
        except ValueError as error:
            raise UserError(f"{root}/list_attr_celeba: attributes are 1 or -1 ({error})") from error
        self.labels["attributes"] = (table > 0).astype(np.int64)

    def _read_identities(self, root: Path) -> None:
        """Read the number of each face's person, if there is a table of them."""
        identities = _read_table(root, "identity_CelebA")
        if identities is None:
            return
        try:
            numbers = [int(identities[1].get(file.name, ["-1"])[0]) for file in self.files]
        except (ValueError, IndexError) as error:
            raise UserError(f"{root}/identity_CelebA: each line is a file and a number ({error})") from error
        self.labels["identity"] = np.array(numbers, dtype=np.int64)


def _read_table(root: Path, stem: str) -> tuple[list[str], dict[str, list[str]]] | None:
    """A table of CelebA as (columns, rows by file name): the official .txt, or Kaggle's .csv; None if neither exists.

    The official attribute table begins with a line that counts the faces and a line of column names; the official
    partition table has neither.
    """
    text_file, csv_file = root / f"{stem}.txt", root / f"{stem}.csv"
    if text_file.is_file():
        lines = [line.split() for line in text_file.read_text().splitlines() if line.strip()]
        if lines and len(lines[0]) == 1 and lines[0][0].isdigit():
            return lines[1], {row[0]: row[1:] for row in lines[2:]}
        return [], {row[0]: row[1:] for row in lines}
    if csv_file.is_file():
        with csv_file.open(newline="") as file:
            header, *rows = [row for row in csv.reader(file) if row] or [[""]]
        return header[1:], {row[0]: row[1:] for row in rows}
    return None

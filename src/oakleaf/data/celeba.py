"""CelebA as it is handed out, or as much of it as there is."""

import csv
import logging
from pathlib import Path
from typing import Literal

import numpy as np

from oakleaf.data.folder import Folder
from oakleaf.errors import UserError

log = logging.getLogger(__name__)


class CelebA(Folder):
    """CelebA's aligned faces with their 40 attributes. Liu 2015, arXiv:1411.7766.

    root holds `img_align_celeba/` (Kaggle's folder in a folder too), and, where they are there, `list_attr_celeba` and
    `list_eval_partition` as .txt or .csv. Any part of the set is welcome. split = all needs no partition.
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
            parts = _table(root, "list_eval_partition")
            if parts is None:
                raise UserError(
                    f"data.source.split={split}: {root}/list_eval_partition.txt is missing; split=all needs none"
                )
            wanted = self.PARTITIONS[split]
            self.files = [file for file in self.files if parts[1].get(file.name, [""])[0] == wanted]
            if not self.files:
                raise UserError(f"data.source.split={split}: none of the faces in {pictures} belong to that part")
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
            raise UserError(f"{root}/list_attr_celeba: attributes are 1 or -1 ({error})") from error
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

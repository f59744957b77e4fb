"""Faces with known ages: UTKFace, or other pictures that are named in its way."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from oakleaf.config.types import NonNegativeInt
from oakleaf.data.folder import Folder, Split
from oakleaf.data.sources import Source
from oakleaf.errors import UserError


class UTKFace(Folder):
    """Faces of 1 to 116 years, in files named AGE_GENDER_RACE_TIME.jpg; the row `age` is in years.

    A face whose name does not begin with an age has age -1, unless ages are selected.

    Args:
        root: the folder of the pictures.
        ages: take only faces of these ages, (from, to) in years, both included; null: all.
        inputs: the ages of the faces that an image-to-image generator translates from, (from, to) in years, both
            included; null: no inputs.
        split: of the faces of these ages: "test" is every tenth, "train" are the others, "all" is all.
        bins: the last age, in years, of each class of ages but the oldest; these are then the row `label`. null: no
            classes.

    Raises:
        UserError: no face has such an age, or a file name does not begin with an age.

    Reference: Zhang 2017, arXiv:1702.08423, section 5.1.
    """

    def __init__(
        self,
        root: Path,
        ages: tuple[NonNegativeInt, NonNegativeInt] | None = None,
        inputs: tuple[NonNegativeInt, NonNegativeInt] | None = None,
        split: Split = "all",
        bins: list[NonNegativeInt] | None = None,
    ) -> None:
        super().__init__(root, labels="none")
        if ages:
            self.files = [file for file in self.files if ages[0] <= _age(file) <= ages[1]]
            if not self.files:
                raise UserError(f"{root}: no file name begins with an age from {ages[0]} to {ages[1]} years")
        self.select_split(split)
        years = np.array([_age_or_unknown(file) for file in self.files])
        self.labels = {"age": years}
        if bins:
            self.classes = age_classes(bins)
            self.labels["label"] = np.where(years < 0, -1, np.searchsorted(bins, years))
        if inputs:
            self.inputs: Source | None = UTKFace(root, inputs, None, split)


def age_classes(bins: Sequence[int]) -> list[str]:
    """Return the names of classes of ages, such as 0-18, 19-29, 30+ for bins of [18, 29].

    Raises:
        UserError: the bins are not in order.
    """
    if sorted(set(bins)) != list(bins):
        raise UserError(
            f"data.source.bins={list(bins)}: give the last age of each class in rising order, such as [18,29]"
        )
    starts = [0, *(last + 1 for last in bins)]
    return [*(f"{first}-{last}" for first, last in zip(starts, bins)), f"{starts[-1]}+"]


def _age_or_unknown(file: Path) -> int:
    years = file.name.split("_")[0]
    return int(years) if years.isdecimal() and len(years) <= 3 else -1


def _age(file: Path) -> int:
    """The age that the file name begins with.

    Raises:
        UserError: it begins with something else.
    """
    years = file.name.split("_")[0]
    if not years.isdecimal():
        raise UserError(f"{file}: the name should begin with an age, as in 26_0_2_20170104.jpg")
    return int(years)

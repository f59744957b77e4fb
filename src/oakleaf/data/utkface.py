"""Faces whose age is known."""

from pathlib import Path

from oakleaf.config.types import NonNegativeInt
from oakleaf.data.folder import Folder, Split
from oakleaf.data.sources import Source
from oakleaf.errors import UserError


class UTKFace(Folder):
    """Faces from 1 to 116 years, named AGE_GENDER_RACE_TIME.jpg. Zhang 2017, arXiv:1702.08423, section 5.1.

    ages: from so many years to so many, both counted; null: all. inputs: the ages of other faces, which images are to
    be made from; null: none. split: as a folder's, of the faces of these ages.
    """

    def __init__(
        self,
        root: Path,
        ages: tuple[NonNegativeInt, NonNegativeInt] | None = None,
        inputs: tuple[NonNegativeInt, NonNegativeInt] | None = None,
        split: Split = "all",
    ) -> None:
        super().__init__(root, labels="none")
        if ages:
            self.files = [file for file in self.files if ages[0] <= _age(file) <= ages[1]]
            if not self.files:
                raise UserError(f"{root}: nobody there is {ages[0]} to {ages[1]} years old, by the pictures' names")
        self.keep(split)
        if inputs:
            self.inputs: Source | None = UTKFace(root, inputs, None, split)


def _age(file: Path) -> int:
    """Raises:
    UserError: the name does not begin with one.
    """
    years = file.name.split("_")[0]
    if not years.isdecimal():
        raise UserError(f"{file}: the name should begin with an age, as in 26_0_2_20170104.jpg")
    return int(years)

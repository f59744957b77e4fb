"""Sources of images that have another picture each, or another set of pictures beside them."""

from functools import cached_property
from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps

from oakleaf.data.decoding import UNREADABLE
from oakleaf.data.folder import Folder
from oakleaf.data.resize import exif_size
from oakleaf.data.sources import Source
from oakleaf.errors import UserError

Side = Literal["left", "right"]
Split = Literal["train", "val", "test"]


class SideBySide(Folder):
    """Pictures of two halves: one is the image, the other what it is made from. Isola 2016's data are so.

    image: the half that is to be made. classes: the half whose colours stand for classes, which is cut to size without
    mixing them. split: a folder below root, or null.
    """

    def __init__(
        self, root: Path, image: Side = "left", classes: Side | None = None, split: Split | None = None
    ) -> None:
        super().__init__(root / split if split else root, labels="none", upscale=True)
        self.side, self.mixes = image, classes != image
        other: Side = "right" if image == "left" else "left"
        self.inputs = _Half(self, other, classes != other)

    def read(self, index: int) -> Image.Image:
        return self.half(index, self.side)

    def half(self, index: int, side: Side) -> Image.Image:
        """Raises:
        ValueError: no two halves.
        """
        with super().read(index) as whole:
            ImageOps.exif_transpose(whole, in_place=True)
            if whole.width % 2 or whole.width < 2:
                raise ValueError(f"{whole.width} pixels wide, which are no two halves")
            middle = whole.width // 2
            box = (0, 0, middle, whole.height) if side == "left" else (middle, 0, whole.width, whole.height)
            return whole.crop(box)

    @cached_property
    def digest(self) -> str:
        return f"{Folder(self.root, labels='none').digest}-{self.side}"


class _Half(Source):
    """The other halves."""

    def __init__(self, whole: SideBySide, side: Side, mixes: bool) -> None:
        self.whole, self.side, self.mixes, self.labels = whole, side, mixes, {}

    def __len__(self) -> int:
        return len(self.whole)

    def read(self, index: int) -> Image.Image:
        return self.whole.half(index, self.side)

    def name(self, index: int) -> str:
        return self.whole.name(index)

    @property
    def digest(self) -> str:
        return f"{self.whole.digest}-{self.side}"


class TwoFolders(Folder):
    """Images in one folder below root, what they are made from in another: trainA and trainB, say.

    image, input: the folders' names; `{split}` in them is replaced by the split. paired: a picture belongs to the one
    of the same name in the other folder (whatever its ending), which has the same size.

    Raises:
        UserError: a picture without its other, or of another size; a folder that is not there or has no pictures.
    """

    def __init__(
        self,
        root: Path,
        image: str = "{split}B",
        input: str = "{split}A",
        split: Split = "train",
        paired: bool = True,
        upscale: bool = False,
    ) -> None:
        super().__init__(root / image.format(split=split), labels="none", upscale=upscale)
        other = Folder(root / input.format(split=split), labels="none", upscale=upscale)
        self.inputs, self.pairs = _matched(self, other) if paired else other, paired


def _matched(images: Folder, inputs: Folder) -> Folder:
    """The inputs in the images' order."""
    names, there = _by_name(images), _by_name(inputs)
    alone = [images.root / name for name in names if name not in there]
    alone += [inputs.root / name for name in there if name not in names]
    if alone:
        raise UserError(
            f"{alone[0]}: no picture of that name in the other folder ({len(alone)} such); pairs are needed here"
        )
    inputs.files = [there[name] for name in names]
    for image, other in zip(images.files, inputs.files):
        if (one := _size(image)) and (two := _size(other)) and one != two:
            raise UserError(f"{image} has {one[1]} x {one[0]} pixels, {other} {two[1]} x {two[0]}: a pair has one size")
    return inputs


def _by_name(folder: Folder) -> dict[Path, Path]:
    """The files by their places in the folder, without endings.

    Raises:
        UserError: two that differ by their ending alone.
    """
    files: dict[Path, Path] = {}
    for file in folder.files:
        other = files.setdefault(file.relative_to(folder.root).with_suffix(""), file)
        if other != file:
            raise UserError(f"{other} and {file}: two pictures of one name; which of them belongs to the pair?")
    return files


def _size(file: Path) -> tuple[int, int] | None:
    """(height, width); None if it can't be read, which is told when it is decoded."""
    try:
        with Image.open(file) as picture:
            return exif_size(picture)
    except UNREADABLE:
        return None

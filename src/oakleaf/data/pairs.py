"""Sources for image-to-image translation: each image has an input picture, or there is a second set of pictures."""

from functools import cached_property
from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps

from oakleaf.data.decoding import UNREADABLE
from oakleaf.data.folder import Folder
from oakleaf.data.pictures import Picture, open_picture, picture_size, reading
from oakleaf.data.sources import Source
from oakleaf.errors import UserError

Side = Literal["left", "right"]
Split = Literal["train", "val", "test"]


class SideBySide(Folder):
    """Pictures of two halves, of which one is the image and the other its input, as in the data of pix2pix.

    Args:
        root: the folder of the pictures.
        image: the half that the generator is to produce; the other half is its input.
        classes: the half whose colours stand for classes, and are not mixed when it is resized; null: neither.
        split: the folder below `root` that holds the pictures; null: `root` itself.

    Reference: Isola 2016, arXiv:1611.07004.
    """

    def __init__(
        self, root: Path, image: Side = "left", classes: Side | None = None, split: Split | None = None
    ) -> None:
        super().__init__(root / split if split else root, labels="none", upscale=True)
        self.side, self.mixes = image, classes != image
        other: Side = "right" if image == "left" else "left"
        self.inputs = _InputHalves(self, other, classes != other)

    def read(self, index: int) -> Picture:
        return self.half(index, self.side)

    def half(self, index: int, side: Side) -> Picture:
        """Read one half of a picture, upright as its EXIF data say.

        Args:
            index: the number of the picture.
            side: which half.

        Raises:
            ValueError: the width of the picture is odd.
        """
        with reading(super().read(index)) as picture:
            if isinstance(picture, Image.Image):
                ImageOps.exif_transpose(picture, in_place=True)
            height, width = picture_size(picture)
            if width % 2 or width < 2:
                raise ValueError(f"{width} pixels wide, which can't be divided into two halves")
            start, end = (0, width // 2) if side == "left" else (width // 2, width)
            return picture.crop((start, 0, end, height)) if isinstance(picture, Image.Image) else picture[:, start:end]

    @cached_property
    def digest(self) -> str:
        return f"{super().digest}-{self.side}"


class _InputHalves(Source):
    """The halves of `SideBySide` pictures that are the inputs."""

    def __init__(self, pictures: SideBySide, side: Side, mixes: bool) -> None:
        self.pictures, self.side, self.mixes, self.labels = pictures, side, mixes, {}

    def __len__(self) -> int:
        return len(self.pictures)

    def read(self, index: int) -> Picture:
        return self.pictures.half(index, self.side)

    def name(self, index: int) -> str:
        return self.pictures.name(index)

    @property
    def digest(self) -> str:
        return f"{self.pictures.digest}-{self.side}"


class TwoFolders(Folder):
    """Images in one folder and inputs in another, `trainB` and `trainA` for example.

    Args:
        root: the folder that holds both.
        image: the name of the folder of the images; `{split}` in it is replaced by the split.
        input: the name of the folder of the inputs, likewise.
        split: "train", "val" or "test".
        paired: an image belongs to the input of the same name (extensions may differ), which must have the same size.
            False: the two sets are independent.
        upscale: enlarge pictures smaller than `data.size`; otherwise such a picture is an error.

    Raises:
        UserError: a folder is missing or has no pictures; a picture of a pair is missing, or the sizes differ.
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
        inputs = Folder(root / input.format(split=split), labels="none", upscale=upscale)
        self.inputs, self.pairs = _matched_inputs(self, inputs) if paired else inputs, paired


def _matched_inputs(images: Folder, inputs: Folder) -> Folder:
    """The inputs in the order of the images with the same names."""
    image_files, input_files = _files_by_name(images), _files_by_name(inputs)
    unmatched = [images.root / name for name in image_files if name not in input_files]
    unmatched += [inputs.root / name for name in input_files if name not in image_files]
    if unmatched:
        raise UserError(
            f"{unmatched[0]}: no picture of that name in the other folder ({len(unmatched)} such); pairs are needed "
            "here"
        )
    inputs.files = [input_files[name] for name in image_files]
    for image, input in zip(images.files, inputs.files):
        if (one := _upright_size(image)) and (two := _upright_size(input)) and one != two:
            raise UserError(
                f"{image} has {one[1]} x {one[0]} pixels, {input} {two[1]} x {two[0]}: both must have the same size"
            )
    return inputs


def _files_by_name(folder: Folder) -> dict[Path, Path]:
    """The files by their paths in the folder without extensions.

    Raises:
        UserError: two paths differ by their extension only.
    """
    files: dict[Path, Path] = {}
    for file in folder.files:
        other = files.setdefault(file.relative_to(folder.root).with_suffix(""), file)
        if other != file:
            raise UserError(f"{other} and {file}: two pictures of one name; remove the one that is not in the pair")
    return files


def _upright_size(file: Path) -> tuple[int, int] | None:
    """(height, width); None if the picture cannot be read, which the decoder reports later."""
    try:
        with reading(open_picture(file)) as picture:
            return picture_size(picture)
    except UNREADABLE:
        return None

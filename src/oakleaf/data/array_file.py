"""Pictures in a folder, in a ZIP archive or in one array, for comparing sets of pictures without a data set's YAML."""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
from PIL import Image

from oakleaf.data.folder import Folder
from oakleaf.data.listing import list_pictures
from oakleaf.data.pictures import Picture
from oakleaf.data.sources import Source
from oakleaf.errors import UserError, first_line


class ArrayFile(Source):
    """The pictures of one `.npy` file, such as `samples.npy` of sample.py; they stay on the disk.

    Args:
        file: an array [N, H, W], [N, H, W, C] or [N, C, H, W] of bytes.

    Raises:
        UserError: it holds something else.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.labels = file, {}
        try:
            self.array: Any = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UserError(f"{file} is not an array of NumPy, or it is damaged ({first_line(error)})") from error
        if self.array.ndim == 4 and self.array.shape[1] in (1, 3, 4) and self.array.shape[3] not in (1, 3, 4):
            self.array = self.array.transpose(0, 2, 3, 1)
        if self.array.ndim not in (3, 4) or not len(self.array) or self.array.dtype.kind not in "uif":
            shape = f"{self.array.dtype} {list(self.array.shape)}"
            raise UserError(f"{file} holds {shape}; pictures are [N, H, W], [N, H, W, C] or [N, C, H, W]")

    def __len__(self) -> int:
        return len(self.array)

    def read(self, index: int) -> Picture:
        values = np.ascontiguousarray(self.array[index])
        if values.dtype != np.uint8 or (values.ndim == 3 and values.shape[2] not in (1, 3, 4)):
            return values
        return Image.fromarray(values.squeeze(2) if values.ndim == 3 and values.shape[2] == 1 else values)

    def name(self, index: int) -> str:
        return f"{self.file}: image {index}"

    @cached_property
    def digest(self) -> str:
        total = hashlib.blake2b(repr((self.array.shape, str(self.array.dtype))).encode(), digest_size=16)
        for part in range(0, len(self.array), 1024):
            total.update(np.ascontiguousarray(self.array[part : part + 1024]).data)
        return total.hexdigest()


def picture_set(place: Path, key: str = "real") -> Source:
    """Return the pictures of a folder, of a ZIP archive or of a `.npy` file.

    Args:
        place: the folder or file.
        key: the option that named it, for messages.

    Raises:
        UserError: there is none of them, or it holds no pictures.
    """
    if place.is_file() and place.suffix.lower() == ".npy":
        return ArrayFile(place)
    if place.is_file() and not is_zipfile(place):
        raise UserError(f"{key}={place}: a folder of pictures, a ZIP archive or a .npy file is needed")
    list_pictures(place, key)  # its message names the option
    return Folder(place, upscale=True)

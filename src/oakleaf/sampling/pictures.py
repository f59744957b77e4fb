"""Picture files as a generator's images: read, cropped and resized as the data of its training."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from oakleaf.data.decoding import UNREADABLE
from oakleaf.data.listing import list_pictures
from oakleaf.data.pictures import open_picture
from oakleaf.data.resize import CropResize
from oakleaf.data.values import BYTES, ValueRange
from oakleaf.errors import UserError
from oakleaf.image_grid import from_bytes
from oakleaf.networks.layers import height_width

log = logging.getLogger(__name__)


class Pictures(NamedTuple):
    """Pictures that were read.

    Attributes:
        names: of the files, without the folder that was named.
        images: [N, C, H, W] in [-1, 1].
    """

    names: list[str]
    images: Tensor


def read_pictures(place: str, data: Mapping[str, Any], key: str = "picture") -> Pictures:
    """Read a picture, or all below a folder; files that cannot be read are logged and left out.

    Args:
        place: a file or a folder.
        data: the node `data` of a run's configuration, which knows size, channels, crop and range of its images.
        key: the option that named the place, for messages.

    Raises:
        UserError: there is no such file, or no picture that can be read.
    """
    path = Path(place).expanduser()
    if not path.exists():
        raise UserError(f"{key}={place}: there is no such file or folder")
    files = [path] if path.is_file() else list_pictures(path, key).files
    root = path.parent if path.is_file() else path
    height, width = height_width(data["size"])
    ends = data.get("range")
    form = ValueRange(ends[0], ends[1], eight_bits=False, by_type=False) if ends else BYTES
    fit = CropResize(data["channels"], height, width, data["crop"], data["resample"], upscale=True, range=form)
    names, images = [], []
    for file in files:
        try:
            pixels = fit(open_picture(file))
        except UNREADABLE as error:
            if len(files) == 1:
                raise UserError(f"{key}={place}: it can't be read ({error})") from error
            log.warning("%s can't be read and is left out (%s)", file, error)
            continue
        names.append(file.relative_to(root).as_posix())
        images.append(from_bytes(torch.from_numpy(pixels.copy())))
    if not images:
        raise UserError(f"{key}={place}: none of its {len(files)} pictures can be read")
    return Pictures(names, torch.stack(images))


def require_contrast(pictures: Pictures, key: str = "picture") -> None:
    """Check that something is shown in each picture.

    Args:
        pictures: what was read.
        key: the option that named them, for the message.

    Raises:
        UserError: all pixels of one are equal.
    """
    for name, image in zip(pictures.names, pictures.images):
        if bool((image == image[:, :1, :1]).all()):
            raise UserError(f"{key}={name}: all of its pixels are equal, so nothing is shown in it")

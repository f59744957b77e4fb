"""A user's own picture as an image of a run, cropped and resized as in training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from oakleaf.data.decoding import UNREADABLE
from oakleaf.data.resize import CropResize
from oakleaf.errors import UserError
from oakleaf.image_grid import from_bytes
from oakleaf.networks.layers import height_width


def own_picture(file: str, data: Mapping[str, Any], option: str = "picture") -> Tensor:
    """Read a picture and crop and resize it as the pictures of a training were; smaller ones are enlarged.

    Args:
        file: its path.
        data: the node `data` of the run's configuration.
        option: the name of the option that gave the file, for messages.

    Returns:
        [1, C, H, W] in [-1, 1].

    Raises:
        UserError: it is no picture, or all of its pixels are equal.
    """
    path = Path(file).expanduser()
    height, width = height_width(data["size"])
    fit = CropResize(
        data["channels"], height, width, data.get("crop", "center"), data.get("resample", "bilinear"), upscale=True
    )
    try:
        with Image.open(path) as opened:
            pixels = np.ascontiguousarray(fit(opened))
    except UNREADABLE as error:
        raise UserError(f"{option}={file}: can't be read as a picture ({error})") from error
    if (pixels == pixels[:, :1, :1]).all():
        raise UserError(f"{option}={file}: all of its pixels are equal, so nothing is shown in it")
    return from_bytes(torch.from_numpy(pixels))[None]

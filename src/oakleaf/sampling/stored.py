"""Samples as they are written: in the values of the pictures that the generator has learned from."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from oakleaf.image_grid import are_points, to_bytes


def sample_rows(images: Tensor, data: Mapping[str, Any]) -> np.ndarray:
    """Return samples as the rows of `samples.npy`, without loss of channels or bits.

    Args:
        images: [N, C, H, W] in [-1, 1], or points [N, d, 1, 1].
        data: the node `data` of the run's configuration, whose `range` has the values of black and white if they are
            not those of bytes.

    Returns:
        uint8 [N, H, W, C]; for pictures of 16 bits uint16, for other ranges float32 in the range; float32 [N, d] for
        points.
    """
    if are_points(images):
        return np.ascontiguousarray(images.flatten(1).numpy())
    if not data.get("range"):
        return np.ascontiguousarray(to_bytes(images).permute(0, 2, 3, 1).numpy())
    low, high = data["range"]
    unit = (images.double().clamp(-1, 1) + 1) / 2
    values = (low + unit * (high - low)).permute(0, 2, 3, 1).numpy()
    sixteen_bits = (low, high) == (0, 65535)
    return np.ascontiguousarray(np.round(values).astype(np.uint16) if sixteen_bits else values.astype(np.float32))

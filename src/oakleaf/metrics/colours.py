"""Colour histograms of samples and real images; used by the image translation experiment (`data=facades`)."""

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageCms
from torch import Tensor

from oakleaf.errors import UserError
from oakleaf.image_grid import are_points, as_bytes
from oakleaf.metrics.evaluation_data import BATCH_SIZE
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric

TO_LAB = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")


class Colours(Metric):
    """The overlap of two sets' pixel histograms, for each coordinate of CIELAB.

    The coordinates are lightness, green to red, and blue to yellow; grey images have lightness only. Bins are those of
    8 bits: 100 / 255 wide for lightness, 1 for the others.

    It detects missing colours: a model that averages over possible colours, as one with an L1 loss alone does,
    generates grey. It cannot detect where colours are, because it ignores the positions of the pixels.

    Reference: Isola 2016, arXiv:1611.07004, figure 7.
    """

    better = {"colours_lightness": "higher", "colours_red": "higher", "colours_yellow": "higher"}
    uses_extractor = False

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        overlap = torch.minimum(histograms(real.pixels), histograms(fake.pixels)).sum(1)
        return dict(zip(self.better, overlap.tolist()))

    def protocol(self) -> dict[str, Any]:
        return {"space": "CIELAB of sRGB, 8 bits"}


def histograms(pixels: Tensor) -> Tensor:
    """Compute the share of pixels in each bin of each CIELAB coordinate.

    Args:
        pixels: uint8 images [N, 1 or 3, H, W].

    Returns:
        [3, 256], or [1, 256] of images with one channel.

    Raises:
        UserError: these are not uint8 images with 1 or 3 channels.
    """
    channels = pixels.shape[1]
    if are_points(pixels) or channels not in (1, 3):
        raise UserError(f"colours needs images of 1 or 3 channels, and these have {channels}")
    counts = torch.zeros(channels, 256, dtype=torch.float64)
    for batch in pixels.split(BATCH_SIZE):
        column = (
            as_bytes(batch).expand(-1, 3, -1, -1).permute(0, 2, 3, 1).flatten(0, 1)
        )  # one tall image, [B * H, W, 3]
        lab = ImageCms.applyTransform(Image.fromarray(column.contiguous().numpy()), TO_LAB)
        for count, values in zip(counts, np.asarray(lab).reshape(-1, 3).T):
            count += torch.from_numpy(np.bincount(values, minlength=256))
    return counts / counts.sum(1, keepdim=True)

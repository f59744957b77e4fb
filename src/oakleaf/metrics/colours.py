"""Whether samples have the colours of the real images, each as often."""

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageCms
from torch import Tensor

from oakleaf.errors import UserError
from oakleaf.metrics.evaluation_data import AT_ONCE
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric

TO_LAB = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")


class Colours(Metric):
    """Share that the histograms of two sets' pixels have in common, for each coordinate of CIELAB: lightness, green to
    red, blue to yellow; grey images have lightness alone. Isola 2016, arXiv:1611.07004, figure 7. Bins are of 8 bits:
    100 / 255 for lightness, 1 for the others.

    What averages over possible colours, as L1 does, draws grey where real images are of any colour, and shares little.
    """

    better = {"colours_lightness": "higher", "colours_red": "higher", "colours_yellow": "higher"}
    uses_extractor = False

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        common = torch.minimum(histograms(real.pixels), histograms(fake.pixels)).sum(1)
        return dict(zip(self.better, common.tolist()))

    def protocol(self) -> dict[str, Any]:
        return {"space": "CIELAB of sRGB, 8 bits"}


def histograms(pixels: Tensor) -> Tensor:
    """Of uint8 [N, C, H, W], the share of pixels in each bin of each coordinate, [3, 256]; of grey images [1, 256].

    Raises:
        UserError: these are no images.
    """
    channels = pixels.shape[1]
    if pixels.dtype != torch.uint8 or channels not in (1, 3):
        raise UserError(f"colours are those of images of 1 or 3 channels, and these have {channels}")
    counts = torch.zeros(channels, 256, dtype=torch.float64)
    for piece in pixels.split(AT_ONCE):
        strip = piece.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).flatten(0, 1)  # below each other
        lab = ImageCms.applyTransform(Image.fromarray(strip.contiguous().numpy()), TO_LAB)
        for count, values in zip(counts, np.asarray(lab).reshape(-1, 3).T):
            count += torch.from_numpy(np.bincount(values, minlength=256))
    return counts / counts.sum(1, keepdim=True)

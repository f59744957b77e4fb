"""Features from gradients and colours, without a trained network.

They serve the image tagging experiment (`data=emoji_tags`), but `extractor=descriptors` works with any images.
"""

from math import pi
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, normalize, pad

from oakleaf.config.types import PositiveInt
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.errors import UserError
from oakleaf.image_grid import as_bytes
from oakleaf.metrics.extractors import Extractor
from oakleaf.metrics.image_set import Features

BATCH_SIZE = 128  # images whose descriptors are computed at once
DIRECTIONS = 9  # bins of gradient directions over 180 degrees: Dalal & Triggs 2005, section 6.3


class Descriptors(Extractor):
    """Use principal components of histograms of gradients and colours.

    Four descriptors are each scaled to length 1 and concatenated: histograms of oriented gradients on 8 x 8 and 4 x 4
    cells, and the square roots of colour histograms, of 4^3 colours on 4 x 4 cells and of 5^3 colours on the whole
    image. The principal components are those of the real images that are not held out. Labels and captions are not
    used, so features of training images and of other images are comparable.

    Args:
        width: the number of principal components.

    Reference: Dalal & Triggs 2005, CVPR; Swain & Ballard 1991, IJCV 7.
    """

    suffix = "-descriptors"

    def __init__(self, width: PositiveInt = 256) -> None:
        self.width = width

    def prepare(self, data: ImageDataModule, device: Any, rows: Tensor | None = None) -> None:
        super().prepare(data, device, rows)
        found = torch.cat([descriptors(images.to(device)) for images in data.iter_images(BATCH_SIZE, rows)])
        if self.width > min(found.shape):
            raise UserError(f"width={self.width}: {len(found)} images have {min(found.shape)} components at most")
        self.mean = found.mean(0)
        centred = (found - self.mean).double()
        self.axes = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, : self.width].float()
        self.digest = data.digest
        self.fitted_on = len(found)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        batches = images.to(self.device).split(BATCH_SIZE)
        return Features(torch.cat([(descriptors(batch) - self.mean) @ self.axes for batch in batches]), None)

    def protocol(self) -> dict[str, Any]:
        return {
            "name": "descriptors",
            "width": self.width,
            "axes": self.digest,
            "fitted_on": self.fitted_on,
            "resize": "none",
        }


def descriptors(images: Tensor) -> Tensor:
    """Compute the four descriptors, [B, 1869], of uint8 images [B, 1 or 3, H, W]."""
    images = as_bytes(images).expand(-1, 3, -1, -1)
    gradients = oriented_gradients(images.float() / 255)
    parts = [
        gradient_histograms(gradients, 8),
        gradient_histograms(gradients, 4),
        colour_histograms(images, 4, 4).sqrt(),
        colour_histograms(images, 5, 1).sqrt(),
    ]
    return torch.cat([normalize(part, dim=1) for part in parts], 1)


def oriented_gradients(x: Tensor) -> Tensor:
    """Compute the gradient of each pixel, divided between the two nearest of nine directions.

    Args:
        x: images [B, 3, H, W] in [0, 1]; each pixel uses the channel with the largest gradient.

    Returns:
        Gradient magnitudes by direction, [B, 9, H, W].
    """
    dx = pad(x[:, :, :, 2:] - x[:, :, :, :-2], (1, 1, 0, 0))
    dy = pad(x[:, :, 2:] - x[:, :, :-2], (0, 0, 1, 1))
    channel = (dx.square() + dy.square()).argmax(1, keepdim=True)
    dx, dy = dx.gather(1, channel), dy.gather(1, channel)
    magnitude = (dx.square() + dy.square()).sqrt()
    angle = torch.atan2(dy, dx) % pi / pi * DIRECTIONS
    lower, share = angle.floor(), angle - angle.floor()
    gradients = torch.zeros(len(x), DIRECTIONS, *x.shape[2:], device=x.device)
    gradients.scatter_add_(1, lower.long() % DIRECTIONS, magnitude * (1 - share))
    return gradients.scatter_add_(1, (lower.long() + 1) % DIRECTIONS, magnitude * share)


def gradient_histograms(gradients: Tensor, side: int) -> Tensor:
    """Compute histograms of gradients [B, 9, H, W] on side x side cells, [B, 9 * side^2].

    Each cell is divided by the contrast of its neighbourhood of 3 x 3 cells.
    """
    pooled = adaptive_avg_pool2d(gradients, side)
    energy = pooled.square().sum(1, keepdim=True)
    contrast = avg_pool2d(energy, 3, 1, 1, count_include_pad=False).sqrt()
    return (pooled / (3 * contrast + 0.02)).flatten(1)


def colour_histograms(images: Tensor, levels: int, side: int) -> Tensor:
    """Compute the shares of levels^3 colours on side x side cells, [B, levels^3 * side^2], of images [B, 3, H, W]."""
    red, green, blue = (images.long() * levels // 256).unbind(1)
    cell_row, cell_column = (torch.arange(n, device=images.device) * side // n for n in images.shape[2:])
    index = ((red * levels + green) * levels + blue) * side**2 + cell_row[:, None] * side + cell_column
    histogram = torch.zeros(len(images), levels**3 * side**2, device=images.device)
    share = side**2 / index[0].numel()  # of a cell, for each pixel
    return histogram.scatter_add_(1, index.flatten(1), histogram.new_tensor(share).expand(index.flatten(1).shape))

"""Features that nobody has to learn: gradients and colours, and where they are."""

from math import pi
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, normalize, pad

from oakleaf.config.types import PositiveInt
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.errors import UserError
from oakleaf.metrics.extractors import Extractor
from oakleaf.metrics.image_set import Features

AT_ONCE = 128  # images described together
DIRECTIONS = 9  # of gradients, on half a turn: Dalal & Triggs 2005, section 6.3


class Descriptors(Extractor):
    """Histograms of oriented gradients (Dalal & Triggs 2005, CVPR) on 8 x 8 and 4 x 4 cells, and the roots of colour
    histograms (Swain & Ballard 1991, IJCV 7) of 4^3 colours on 4 x 4 cells and of 5^3 on the whole; each of the four
    with length 1, then together the `width` principal components of the images that it was prepared with.

    They know nothing of labels or captions, so images that they were prepared with are like those that they were not.
    """

    suffix = "-descriptors"

    def __init__(self, width: PositiveInt = 256) -> None:
        self.width = width

    def prepare(self, data: ImageDataModule, device: Any) -> None:
        super().prepare(data, device)
        described = torch.cat([described_by(images.to(device)) for images in data.rows["image"].split(AT_ONCE)])
        if self.width > min(described.shape):
            raise UserError(
                f"width={self.width}: {len(described)} images have {min(described.shape)} components at most"
            )
        self.mean = described.mean(0)
        centred = (described - self.mean).double()
        self.axes = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, : self.width].float()
        self.digest = data.digest

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        pieces = images.to(self.device).split(AT_ONCE)
        return Features(torch.cat([(described_by(piece) - self.mean) @ self.axes for piece in pieces]), None)

    def protocol(self) -> dict[str, Any]:
        return {"name": "descriptors", "width": self.width, "axes": self.digest, "resize": "none"}


def described_by(images: Tensor) -> Tensor:
    """Descriptors [B, 1869] of images uint8 [B, 1 or 3, H, W]."""
    images = images.expand(-1, 3, -1, -1)
    gradients = oriented(images.float() / 255)
    parts = [cells(gradients, 8), cells(gradients, 4), colours(images, 4, 4).sqrt(), colours(images, 5, 1).sqrt()]
    return torch.cat([normalize(part, dim=1) for part in parts], 1)


def oriented(x: Tensor) -> Tensor:
    """The gradient of the channel where it is largest, shared between the two nearest of nine directions:
    [B, 3, H, W] in [0, 1] -> [B, 9, H, W]."""
    across = pad(x[:, :, :, 2:] - x[:, :, :, :-2], (1, 1, 0, 0))
    down = pad(x[:, :, 2:] - x[:, :, :-2], (0, 0, 1, 1))
    steep = (across.square() + down.square()).argmax(1, keepdim=True)
    across, down = across.gather(1, steep), down.gather(1, steep)
    length = (across.square() + down.square()).sqrt()
    place = torch.atan2(down, across) % pi / pi * DIRECTIONS
    low, share = place.floor(), place - place.floor()
    found = torch.zeros(len(x), DIRECTIONS, *x.shape[2:], device=x.device)
    found.scatter_add_(1, low.long() % DIRECTIONS, length * (1 - share))
    return found.scatter_add_(1, (low.long() + 1) % DIRECTIONS, length * share)


def cells(gradients: Tensor, side: int) -> Tensor:
    """Histograms of `side` x `side` cells, each by the contrast of its 3 x 3 neighbours: [B, 9 * side^2]."""
    pooled = adaptive_avg_pool2d(gradients, side)
    energy = pooled.square().sum(1, keepdim=True)
    contrast = avg_pool2d(energy, 3, 1, 1, count_include_pad=False).sqrt()
    return (pooled / (3 * contrast + 0.02)).flatten(1)


def colours(images: Tensor, levels: int, side: int) -> Tensor:
    """Shares of levels^3 colours on side x side cells, [B, levels^3 * side^2]."""
    red, green, blue = (images.long() * levels // 256).unbind(1)
    high, wide = (torch.arange(pixels, device=images.device) * side // pixels for pixels in images.shape[2:])
    place = ((red * levels + green) * levels + blue) * side**2 + high[:, None] * side + wide
    found = torch.zeros(len(images), levels**3 * side**2, device=images.device)
    share = side**2 / place[0].numel()  # of a cell, for each pixel
    return found.scatter_add_(1, place.flatten(1), found.new_tensor(share).expand(place.flatten(1).shape))

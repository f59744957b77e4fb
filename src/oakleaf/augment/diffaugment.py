"""Differentiable augmentation with fixed strength."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from oakleaf.augment.augmentation import Augmentation, Pair
from oakleaf.augment.pixels import taken

Policy = Literal["colour", "translation", "cutout"]
TRANSLATION = 1 / 8  # of the height and width, the largest shift
CUTOUT = 1 / 2  # of the height and width


class DiffAugment(Augmentation):
    """DiffAugment: every image is changed, each by its own random numbers.

    - colour: brightness b + U(-1/2, 1/2); then the distance of each channel from the mean over channels is multiplied
      by U(0, 2); then the distance of each value from the image's mean by U(1/2, 3/2). On grey images the second step
      changes nothing.
    - translation: a shift by whole pixels up to 1/8 of the image in both directions; what enters is grey, that is 0.
    - cutout: a rectangle of half the height and width becomes 0.

    Pictures that the images are conditioned on are shifted alike. The numbers are those of the authors' code.

    Args:
        policy: what is changed, in this order.

    Reference: Zhao 2020, arXiv:2006.10738, section 3.2.
    """

    def __init__(self, policy: Sequence[Policy] = ("colour", "translation", "cutout")) -> None:
        super().__init__()
        self.policy = tuple(policy)

    def augment(self, images: Tensor, condition: Tensor | None) -> Pair:
        for name in self.policy:
            if name == "colour":
                images = _coloured(images)
            elif name == "cutout":
                images = _cut(images)
            elif condition is None:
                images = _shifted(images)
            else:
                both = _shifted(torch.cat([images, condition.to(images.dtype)], 1))
                images, shifted = both.split([images.shape[1], condition.shape[1]], 1)
                condition = shifted.to(condition.dtype)
        return images, condition


def _coloured(images: Tensor) -> Tensor:
    brightness, saturation, contrast = torch.rand(3, len(images), 1, 1, 1, device=images.device, dtype=images.dtype)
    images = images + brightness - 0.5
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * (2 * saturation) + grey
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * (contrast + 0.5) + mean


def _shifted(images: Tensor) -> Tensor:
    count, _, *sides = images.shape
    sources, inside = [], []
    for size in sides:
        largest = int(size * TRANSLATION + 0.5)
        shift = torch.randint(-largest, largest + 1, (count, 1), device=images.device)
        source = torch.arange(size, device=images.device) + shift  # [B, size]
        sources.append(source.clamp(0, size - 1))
        inside.append((source >= 0) & (source < size))
    rows, columns = torch.broadcast_tensors(sources[0][:, :, None], sources[1][:, None, :])
    visible = inside[0][:, :, None] & inside[1][:, None, :]
    return torch.where(visible[:, None], taken(images, rows, columns), 0.0)


def _cut(images: Tensor) -> Tensor:
    count, _, *sides = images.shape
    inside = []
    for size in sides:
        length = int(size * CUTOUT + 0.5)
        middle = torch.randint(size + 1 - length % 2, (count, 1), device=images.device)
        start = middle - length // 2
        place = torch.arange(size, device=images.device)
        inside.append((place >= start) & (place < start + length))
    hidden = inside[0][:, :, None] & inside[1][:, None, :]
    return torch.where(hidden[:, None], 0.0, images)

"""Images as measures see them."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor


class Moments(NamedTuple):
    """float64."""

    mean: Tensor  # [d]
    covariance: Tensor  # [d, d], unbiased


class Features(NamedTuple):
    """What an extractor sees."""

    features: Tensor  # [N, d] float32
    logits: Tensor | None  # [N, K], where the extractor knows classes


@dataclass
class ImageSet:
    """N images: features, and the images themselves as they are stored (uint8, or float for points)."""

    extracted: Features
    pixels: Tensor  # [N, C, H, W]
    label: Tensor | None = None  # [N], -1 = unlabelled

    @property
    def features(self) -> Tensor:
        return self.extracted.features

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: Tensor | slice) -> "ImageSet":
        logits = self.extracted.logits
        extracted = Features(self.features[rows], None if logits is None else logits[rows])
        return ImageSet(extracted, self.pixels[rows], None if self.label is None else self.label[rows])

    @cached_property
    def moments(self) -> Moments:
        return moments(self.features)


def moments(features: Tensor) -> Moments:
    """Mean and unbiased covariance of [N, d], accumulated in float64 by pieces."""
    mean = features.double().mean(0)
    outer = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=features.device)
    for piece in features.split(8192):
        centred = piece.double() - mean
        outer += centred.T @ centred
    return Moments(mean, outer / (len(features) - 1))

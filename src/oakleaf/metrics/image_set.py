"""A set of images with their features and labels, the input of every metric."""

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor


class Moments(NamedTuple):
    """Mean and covariance of features, in float64.

    Attributes:
        mean: [d].
        covariance: [d, d], unbiased (divided by N - 1).
    """

    mean: Tensor
    covariance: Tensor


class Features(NamedTuple):
    """The output of an extractor for N images.

    Attributes:
        features: [N, d] float32.
        logits: [N, K] if the extractor is a classifier, else None.
    """

    features: Tensor
    logits: Tensor | None

    def select(self, rows: Tensor | slice) -> "Features":
        """Return the output for these images alone."""
        return Features(self.features[rows], None if self.logits is None else self.logits[rows])


class ImageSet:
    """N images, their features and their labels.

    Args:
        extracted: the extractor's output; features [N, 0] where there is no extractor.
        pixels: [N, C, H, W] as stored: uint8 images, or float points; or a function from rows to them, which is called
            when a metric first needs pixels.
        label: [N], -1 where an image has no label; None if none has one.
        rows: the rows of real images in their data set, [N]; None for samples.
    """

    def __init__(
        self,
        extracted: Features,
        pixels: Tensor | Callable[[Tensor], Tensor],
        label: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> None:
        self.extracted, self._pixels, self.label, self.rows = extracted, pixels, label, rows

    @cached_property
    def pixels(self) -> Tensor:
        """The images as stored, [N, C, H, W]."""
        if isinstance(self._pixels, Tensor):
            return self._pixels
        assert self.rows is not None
        return self._pixels(self.rows)

    @property
    def features(self) -> Tensor:
        """The features, [N, d]."""
        return self.extracted.features

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: Tensor | slice) -> "ImageSet":
        """Return the images of these rows as a new set."""
        label = None if self.label is None else self.label[rows]
        own = None if self.rows is None else self.rows[rows]
        pixels = self._pixels[rows] if isinstance(self._pixels, Tensor) else self._pixels
        return ImageSet(self.extracted.select(rows), pixels, label, own)

    @cached_property
    def moments(self) -> Moments:
        """Mean and covariance of the features."""
        return moments(self.features)


def moments(features: Tensor) -> Moments:
    """Compute mean and unbiased covariance of features [N, d], accumulated in float64 over batches."""
    mean = features.double().mean(0)
    outer = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=features.device)
    for batch in features.split(8192):
        centred = batch.double() - mean
        outer += centred.T @ centred
    return Moments(mean, outer / (len(features) - 1))

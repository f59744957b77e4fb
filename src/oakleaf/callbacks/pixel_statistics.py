"""Cheap statistics of a few samples against a few training images, computed on small pixel images."""

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from oakleaf.metrics.neighbours import flat, nearest

MAX_SIDE = 16  # pixels; larger images are shrunk to this, so that a check costs the same at any image size


class PixelStatistics:
    """Diversity, coverage, copies and movement of samples, relative to real images.

    All distances are Euclidean in pixel space and are given relative to the mean distance between two real images. The
    methods take samples as `small` returns them, [N, d].

    Args:
        real: training images as they are stored, [N, C, H, W], in random order.
        mirrors: whether training mirrors the images, so that a mirrored copy is a copy, too.
    """

    def __init__(self, real: Tensor, mirrors: bool = False) -> None:
        self.real = small(real)
        self.references = torch.cat([self.real, small(real.flip(3))]) if mirrors else self.real
        distances = torch.cdist(self.real, self.real)
        distances.fill_diagonal_(0)
        self.scale = float(distances.sum()) / max(1, len(distances) * (len(distances) - 1)) or 1.0
        distances[distances < 1e-3 * self.scale] = torch.inf  # each image itself, and its duplicates up to rounding
        self.nearest_other = distances.min(1).values

    def diversity(self, samples: Tensor) -> float:
        """Return the mean distance between two samples: 1 as for real images, 0 if all samples are equal."""
        return float(torch.pdist(samples).mean()) / self.scale

    def coverage(self, samples: Tensor) -> float:
        """Return how many real images are the nearest one of some sample, relative to the number expected by chance.

        As many real images are used as there are samples. The value is about 1 for new data, and near 0 if the samples
        fill a small part of the space.
        """
        real = self.real[: len(samples)]
        covered = len(nearest(samples, real).row.unique())
        return covered / (len(real) * (1 - (1 - 1 / len(real)) ** len(samples)))

    def copied(self, samples: Tensor, ratio: float) -> float:
        """Return the share of samples that are copies of a training image.

        A sample is a copy if its distance to the nearest training image is at most `ratio` times that image's distance
        to its own nearest other image.
        """
        found = nearest(samples, self.references)
        reference = self.nearest_other[found.row[:, 0] % len(self.nearest_other)]
        return float((found.distance[:, 0] <= ratio * reference).float().mean())

    def distance(self, samples: Tensor, others: Tensor) -> float:
        """Return the mean distance between two sets of samples of the same latents, row by row."""
        return float((samples - others).norm(dim=1).mean()) / self.scale


def small(images: Tensor) -> Tensor:
    """Shrink images as they are stored, [N, C, H, W], to at most 16 pixels a side, and flatten them to [N, d]."""
    height, width = (min(side, MAX_SIDE) for side in images.shape[2:])
    values = flat(images).view(images.shape)
    return adaptive_avg_pool2d(values, (height, width)).flatten(1)

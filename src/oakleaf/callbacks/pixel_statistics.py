"""What a few samples say, held against a few training images, in pixels."""

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from oakleaf.metrics.neighbours import flat, nearest

SIDE = 16  # pixels: larger images are shrunk to it, so that a look costs the same at any size


class PixelStatistics:
    """real: training images [N, C, H, W] as they are stored, in an order by chance; mirrors: whether training mirrors
    them, and copies may be mirrored too. All distances are Euclidean, and are given as shares of the mean distance
    between two real images."""

    def __init__(self, real: Tensor, mirrors: bool = False) -> None:
        self.real = small(real)
        self.learned = torch.cat([self.real, small(real.flip(3))]) if mirrors else self.real
        between = torch.cdist(self.real, self.real)
        between.fill_diagonal_(0)
        self.scale = float(between.sum()) / max(1, len(between) * (len(between) - 1)) or 1.0
        between[between < 1e-3 * self.scale] = torch.inf  # itself, and its twins, up to rounding
        self.own = between.min(1).values  # to the nearest other one

    def diversity(self, samples: Tensor) -> float:
        """Mean distance between two samples: 1 as real images, 0 if all are one."""
        return float(torch.pdist(samples).mean()) / self.scale

    def coverage(self, samples: Tensor) -> float:
        """How many different real images, of as many as there are samples, are nearest to a sample, over how many
        would be if each were as likely: about 1 for new data, near 0 where samples fill a corner."""
        some = self.real[: len(samples)]
        met = len(nearest(samples, some).row.unique())
        return met / (len(some) * (1 - (1 - 1 / len(some)) ** len(samples)))

    def copied(self, samples: Tensor, near: float) -> float:
        """Share of samples whose nearest training image is `near` times as far as that image is from its own
        nearest one, or nearer."""
        found = nearest(samples, self.learned)
        return float((found.distance[:, 0] <= near * self.own[found.row[:, 0] % len(self.own)]).float().mean())

    def distance(self, these: Tensor, those: Tensor) -> float:
        """Mean distance between images of the same latents."""
        return float((these - those).norm(dim=1).mean()) / self.scale


def small(images: Tensor) -> Tensor:
    """[N, C, H, W] as stored -> [N, d]."""
    height, width = (min(side, SIDE) for side in images.shape[2:])
    values = flat(images).view(images.shape)
    return adaptive_avg_pool2d(values, (height, width)).flatten(1)

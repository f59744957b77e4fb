"""The Frechet distance extrapolated to infinitely many samples."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from oakleaf.config.types import PositiveInt
from oakleaf.metrics.fid import covariance_root, frechet_distance
from oakleaf.metrics.image_set import ImageSet, moments
from oakleaf.metrics.metric import Metric, require_images

MIN_FRACTION = 0.1  # of the samples, in the smallest of the sets: 5,000 of 50,000 in the paper
RESAMPLED_POINTS = 5  # sets for each standard error


class FrechetInfinity(Metric):
    """FID-infinity: the Frechet distance that infinitely many samples would have.

    The distance of n samples is linear in 1/n where n is large. It is computed for random sets of increasing size, and
    a line through these values is read off at 1/n = 0. The real images are always all of them.

    It detects what `fid` detects, and compares evaluations with different numbers of samples. It cannot remove the bias
    from too few real images, and its own standard error is larger than that of `fid`.

    Args:
        points: the number of sizes, evenly spaced from a tenth of the samples (at least four times the number of
            features) to all of them.

    Reference: Chong & Forsyth 2019, arXiv:1911.07023, section 3.
    """

    better = {"fid_infinity": "lower"}

    def __init__(self, points: PositiveInt = 15) -> None:
        self.points = points

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        dimensions = real.features.shape[1]
        require_images(dimensions + 1, real, f"the covariance of {dimensions:,} features")
        require_images(8 * dimensions, fake, f"the extrapolation with {dimensions:,} features")
        root = covariance_root(real.moments.covariance)
        return {"fid_infinity": self._extrapolate(real, fake.features, root, self.points)}

    def resampler(self, real: ImageSet, fake: ImageSet) -> Callable[[Tensor], dict[str, float]]:
        require_images(16 * real.features.shape[1], fake, "the standard error of an extrapolation")
        root, points = covariance_root(real.moments.covariance), min(self.points, RESAMPLED_POINTS)
        return lambda rows: {"fid_infinity": self._extrapolate(real, fake.features[rows], root, points)}

    def _extrapolate(self, real: ImageSet, features: Tensor, root: Tensor, points: int) -> float:
        smallest = max(4 * features.shape[1], int(MIN_FRACTION * len(features)))
        generator = torch.Generator().manual_seed(0)
        sizes = torch.linspace(smallest, len(features), points).long()
        distances = []
        for size in sizes.tolist():
            rows = torch.randperm(len(features), generator=generator)[:size]
            distances.append(frechet_distance(real.moments, moments(features[rows]), root))
        return intercept(1 / sizes.double(), torch.tensor(distances).double())

    def protocol(self) -> dict[str, Any]:
        return {"points": self.points}


def intercept(x: Tensor, y: Tensor) -> float:
    """Return the value at x = 0 of the line that fits y best, by least squares; x and y are [N] float64."""
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    return float(y.mean() - slope * x.mean())

"""The Frechet distance of features."""

from math import isfinite

import torch

from oakleaf.errors import UserError
from oakleaf.metrics.image_set import ImageSet, Moments
from oakleaf.metrics.metric import Metric, at_least


def frechet_distance(one: Moments, two: Moments) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), squared, between Gaussians (Dowson & Landau 1982, eq. (4)).

    The trace of the root is the sum of the roots of the eigenvalues of C1^(1/2) C2 C1^(1/2), which is symmetric:
    float64, no matrix root of SciPy's, nothing complex.
    """
    values, vectors = torch.linalg.eigh(one.covariance)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    product = root @ two.covariance @ root
    shared = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    traces = one.covariance.trace() + two.covariance.trace()
    distance = float((one.mean - two.mean).square().sum() + traces - 2 * shared)
    if not isfinite(distance):
        raise UserError("fid: the covariances are no numbers, or too large")
    return max(0.0, distance)  # below 0 by rounding alone


class FrechetDistance(Metric):
    """FID with Inception's pool features: Heusel 2017, arXiv:1706.08500, eq. (6); with others it bears their name."""

    better = {"fid": "lower"}

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        dimensions = real.features.shape[1]
        for sample in (real, fake):
            at_least(dimensions + 1, sample, f"the covariance of {dimensions:,} features")
        return {"fid": frechet_distance(real.moments, fake.moments)}

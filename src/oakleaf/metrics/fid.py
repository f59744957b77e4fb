"""The Frechet distance between the features of real images and samples (FID)."""

from collections.abc import Callable
from math import isfinite

import torch
from torch import Tensor

from oakleaf.errors import UserError
from oakleaf.metrics.image_set import ImageSet, Moments, moments
from oakleaf.metrics.metric import Metric, require_images


def covariance_root(covariance: Tensor) -> Tensor:
    """Compute the symmetric square root of a covariance [d, d]; eigenvalues that rounding made negative count as 0."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def frechet_distance(one: Moments, two: Moments, root: Tensor | None = None) -> float:
    """Compute the squared Frechet distance between two Gaussians.

    The distance is `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`. The trace of the root is the sum of the square roots
    of the eigenvalues of the symmetric matrix `C1^(1/2) C2 C1^(1/2)`, so no general matrix root, which may become
    complex, is needed.

    Args:
        one: mean [d] and covariance [d, d] of the first Gaussian, float64.
        two: those of the second.
        root: `covariance_root` of the first covariance, where it is known.

    Returns:
        The distance, at least 0.

    Raises:
        UserError: the covariances are not finite, or too large.

    Reference: Dowson & Landau 1982, eq. (4).
    """
    root = covariance_root(one.covariance) if root is None else root
    product = root @ two.covariance @ root
    trace_of_root = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    traces = one.covariance.trace() + two.covariance.trace()
    distance = float((one.mean - two.mean).square().sum() + traces - 2 * trace_of_root)
    if not isfinite(distance):
        raise UserError("fid: the covariances are not finite, or too large")
    return max(0.0, distance)  # rounding alone can make it negative


class FrechetDistance(Metric):
    """FID: the Frechet distance between Gaussians fitted to the features of real images and samples.

    It detects any difference of the features' means and covariances, so both poor quality and missing variety raise it.
    It cannot detect differences that leave both unchanged, nor copies of the training images, whose FID is low. Only
    with `extractor=inception` is it the published FID; other extractors append their suffix to the name.

    Reference: Heusel 2017, arXiv:1706.08500, eq. (6).
    """

    better = {"fid": "lower"}

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        dimensions = real.features.shape[1]
        for images in (real, fake):
            require_images(dimensions + 1, images, f"the covariance of {dimensions:,} features")
        return {"fid": frechet_distance(real.moments, fake.moments)}

    def resampler(self, real: ImageSet, fake: ImageSet) -> Callable[[Tensor], dict[str, float]]:
        root = covariance_root(real.moments.covariance)
        return lambda rows: {"fid": frechet_distance(real.moments, moments(fake.features[rows]), root)}

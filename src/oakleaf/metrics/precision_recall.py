"""Precision, recall, density and coverage: quality and variety as separate numbers."""

from typing import Any

import torch
from torch import Tensor

from oakleaf.config.types import PositiveInt
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric, require_images
from oakleaf.metrics.neighbours import BLOCK, nearest, shuffled

ROUNDING = 1e-5  # relative rounding error of float32 features and of the distances between them


class Prdc(Metric):
    """Precision, recall, density and coverage in feature space.

    Around each image lies a ball whose radius is the distance to its k-th nearest neighbour within its own set.

    - precision: the share of samples inside the ball of a real image.
    - recall: the share of real images inside the ball of a sample.
    - density: the mean number of real balls around a sample, divided by k.
    - coverage: the share of real images whose ball contains a sample.

    Precision and density detect samples that are unlike the real images; recall and coverage detect real images that no
    sample is like. Precision and recall cannot detect wrong proportions of the modes, and copies of the real images
    have precision, recall and coverage 1.

    Args:
        k: the neighbour that determines the radius.
        most: use at most this many images of each set; both sets always have equally many.

    Reference: Kynkaanniemi 2019, arXiv:1904.06991, eq. (1) and (2); Naeem 2020, arXiv:2002.09797, eq. (3) and (4).
    """

    better = {"precision": "higher", "recall": "higher", "density": "higher", "coverage": "higher"}

    def __init__(self, k: PositiveInt = 5, most: PositiveInt = 10_000) -> None:
        self.k, self.most = k, most

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        for images in (real, fake):
            require_images(self.k + 1, images, f"prdc with k={self.k}")
        count = min(self.most, len(real), len(fake))
        real_features, fake_features = (s.features[shuffled(len(s), count)] for s in (real, fake))
        return prdc(real_features, fake_features, self.k)

    def protocol(self) -> dict[str, Any]:
        return {"k": self.k, "most": self.most}


def prdc(real: Tensor, fake: Tensor, k: int) -> dict[str, float]:
    """Compute precision, recall, density and coverage of features real [N, d] and fake [M, d]."""
    real_radius, fake_radius = (_knn_radius(features, k) for features in (real, fake))
    balls_around_fake = torch.zeros(len(fake), device=fake.device)
    recalled, covered = [], []
    for block, radius in zip(real.split(BLOCK), real_radius.split(BLOCK)):
        distance = torch.cdist(block.double(), fake.double())
        balls_around_fake += (distance < radius[:, None]).sum(0)
        recalled.append((distance < fake_radius).any(1))
        covered.append(distance.min(1).values < radius)
    return {
        "precision": float((balls_around_fake > 0).float().mean()),
        "recall": float(torch.cat(recalled).float().mean()),
        "density": float(balls_around_fake.mean() / k),
        "coverage": float(torch.cat(covered).float().mean()),
    }


def _knn_radius(features: Tensor, k: int) -> Tensor:
    """The radius of each ball, [N] float64: slightly less than the distance to the k-th neighbour.

    With k or more duplicates of an image that distance is 0; the radius is then large enough to contain them.
    """
    radius = nearest(features, features, k, exclude_self=True).distance[:, -1].double()
    smallest = ROUNDING * float(features.norm(dim=1).mean()) + torch.finfo(torch.float32).tiny
    return (radius * (1 - ROUNDING)).clamp(min=smallest)

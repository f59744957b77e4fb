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
    have precision, recall and coverage 1. Density may exceed that of real images: it rises if samples lie where the
    real ones are dense.

    Args:
        k: the neighbour that determines the radius for precision and recall. A larger k has larger balls, and blurred
            samples fall into them.
        density_k: the same for density and coverage.
        most: use at most this many images of each set; both sets always have equally many.

    Reference: Kynkaanniemi 2019, arXiv:1904.06991, eq. (1) and (2), k = 3; Naeem 2020, arXiv:2002.09797, eq. (3) and
    (4), k = 5.
    """

    better = {"precision": "higher", "recall": "higher", "density": "baseline", "coverage": "higher"}

    def __init__(self, k: PositiveInt = 3, density_k: PositiveInt = 5, most: PositiveInt = 10_000) -> None:
        self.k, self.density_k, self.most = k, density_k, most

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        largest = max(self.k, self.density_k)
        for images in (real, fake):
            require_images(largest + 1, images, f"prdc with k={largest}")
        count = min(self.most, len(real), len(fake))
        real_features, fake_features = (s.features[shuffled(len(s), count)] for s in (real, fake))
        return prdc(real_features, fake_features, self.k, self.density_k)

    def protocol(self) -> dict[str, Any]:
        return {"k": self.k, "density_k": self.density_k, "most": self.most}


def prdc(real: Tensor, fake: Tensor, k: int, density_k: int | None = None) -> dict[str, float]:
    """Compute precision, recall, density and coverage.

    Args:
        real: features [N, d].
        fake: features [M, d].
        k: the neighbour that determines the radius for precision and recall.
        density_k: the same for density and coverage; None: k.
    """
    density_k = density_k or k
    real_radii = _knn_radii(real, k, density_k)  # [N, 2]
    fake_radius = _knn_radii(fake, k)[:, 0]
    inside = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
    balls_around_fake = torch.zeros(len(fake), device=fake.device)
    recalled, covered = [], []
    for block, radii in zip(real.split(BLOCK), real_radii.split(BLOCK)):
        distance = torch.cdist(block.double(), fake.double())
        inside |= (distance < radii[:, :1]).any(0)
        balls_around_fake += (distance < radii[:, 1:]).sum(0)
        recalled.append((distance < fake_radius).any(1))
        covered.append(distance.min(1).values < radii[:, 1])
    return {
        "precision": float(inside.float().mean()),
        "recall": float(torch.cat(recalled).float().mean()),
        "density": float(balls_around_fake.mean() / density_k),
        "coverage": float(torch.cat(covered).float().mean()),
    }


def _knn_radii(features: Tensor, *ks: int) -> Tensor:
    """The radius of each ball for each k, [N, K] float64: slightly less than the distance to the k-th neighbour.

    With k or more duplicates of an image that distance is 0; the radius is then large enough to contain them.
    """
    distance = nearest(features, features, max(ks), exclude_self=True).distance.double()
    smallest = ROUNDING * float(features.norm(dim=1).mean()) + torch.finfo(torch.float32).tiny
    return (distance[:, [k - 1 for k in ks]] * (1 - ROUNDING)).clamp(min=smallest)

"""Quality and diversity apart, from balls around samples."""

from typing import Any

import torch
from torch import Tensor

from oakleaf.config.types import PositiveInt
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric, at_least
from oakleaf.metrics.neighbours import PIECE, nearest, shuffled

ROUNDING = 1e-5  # of features, and of distances between them, in float32


class Prdc(Metric):
    """Precision and recall (Kynkaanniemi 2019, arXiv:1904.06991, eq. (1) and (2)), density and coverage (Naeem 2020,
    arXiv:2002.09797, eq. (3) and (4)).

    Each ball reaches to the k-th nearest neighbour within its own set. Precision: share of samples within a real ball;
    recall: share of real images within a sample's ball; density: real balls around a sample, over k; coverage: share
    of real balls with a sample in them. Equally many of both, at most `most`.
    """

    better = {"precision": "higher", "recall": "higher", "density": "higher", "coverage": "higher"}

    def __init__(self, k: PositiveInt = 5, most: PositiveInt = 10_000) -> None:
        self.k, self.most = k, most

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        for sample in (real, fake):
            at_least(self.k + 1, sample, f"prdc with k={self.k}")
        count = min(self.most, len(real), len(fake))
        some, others = (s.features[shuffled(len(s), count)] for s in (real, fake))
        return prdc(some, others, self.k)

    def protocol(self) -> dict[str, Any]:
        return {"k": self.k, "most": self.most}


def prdc(real: Tensor, fake: Tensor, k: int) -> dict[str, float]:
    """The four numbers of features real [N, d] and fake [M, d]."""
    real_reach, fake_reach = (_knn_radius(features, k) for features in (real, fake))
    around = torch.zeros(len(fake), device=fake.device)  # real balls that each sample lies in
    recalled, covered = [], []
    for piece, reach in zip(real.split(PIECE), real_reach.split(PIECE)):
        between = torch.cdist(piece.double(), fake.double())
        around += (between < reach[:, None]).sum(0)
        recalled.append((between < fake_reach).any(1))
        covered.append(between.min(1).values < reach)
    return {
        "precision": float((around > 0).float().mean()),
        "recall": float(torch.cat(recalled).float().mean()),
        "density": float(around.mean() / k),
        "coverage": float(torch.cat(covered).float().mean()),
    }


def _knn_radius(features: Tensor, k: int) -> Tensor:
    """Each ball's radius, [N] float64, to just before the k-th neighbour. Where k twins leave none, it still holds
    them."""
    reach = nearest(features, features, k, themselves=True).distance[:, -1].double()
    least = ROUNDING * float(features.norm(dim=1).mean()) + torch.finfo(torch.float32).tiny
    return (reach * (1 - ROUNDING)).clamp(min=least)

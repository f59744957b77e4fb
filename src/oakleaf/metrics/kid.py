"""The kernel distance of features."""

from typing import Any

import torch
from torchmetrics.image.kid import poly_mmd

from oakleaf.config.types import PositiveInt
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric, at_least


class KernelDistance(Metric):
    """KID: the unbiased squared MMD with the kernel (x.y / d + 1)^3. Binkowski 2018, arXiv:1801.01401, section 4.

    The mean over `subsets` random subsets of `size` (or as many as there are), and its standard deviation over them.
    """

    better = {"kid": "lower", "kid_sd": ""}

    def __init__(self, subsets: PositiveInt = 100, size: PositiveInt = 1000) -> None:
        self.subsets, self.size = subsets, size
        self.taken: list[int] = []  # of the samples, then of the real line

    def prepare(self, evaluation: EvaluationData) -> None:
        self.taken = []

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        for sample in (real, fake):
            at_least(10, sample, "kid")
        size = min(self.size, len(real), len(fake))
        self.taken.append(size)
        generator = torch.Generator().manual_seed(0)
        values = []
        for _ in range(self.subsets):
            some, others = (torch.randperm(len(s), generator=generator)[:size] for s in (real, fake))
            values.append(poly_mmd(real.features[some].double(), fake.features[others].double()))
        value = torch.stack(values)
        return {"kid": float(value.mean()), "kid_sd": float(value.std(correction=0))}

    def protocol(self) -> dict[str, Any]:
        return {"subsets": self.subsets, "subset_size": self.taken[0], "subset_size_real": self.taken[-1]}

"""The kernel distance of features."""

from typing import Any

import torch
from torchmetrics.image.kid import poly_mmd

from oakleaf.config.types import Count
from oakleaf.metrics.evaluation_data import Evidence
from oakleaf.metrics.image_set import Sample
from oakleaf.metrics.metric import Measure, at_least


class KernelDistance(Measure):
    """KID: the unbiased squared MMD with the kernel (x.y / d + 1)^3. Binkowski 2018, arXiv:1801.01401, section 4.

    The mean over `subsets` random subsets of `size` (or as many as there are), and its standard deviation over them.
    """

    better = {"kid": "lower", "kid_sd": ""}

    def __init__(self, subsets: Count = 100, size: Count = 1000) -> None:
        self.subsets, self.size = subsets, size
        self.taken: list[int] = []  # of the samples, then of the real line

    def prepare(self, evidence: Evidence) -> None:
        self.taken = []

    def __call__(self, real: Sample, subject: Sample) -> dict[str, float]:
        for sample in (real, subject):
            at_least(10, sample, "kid")
        size = min(self.size, len(real), len(subject))
        self.taken.append(size)
        generator = torch.Generator().manual_seed(0)
        values = []
        for _ in range(self.subsets):
            some, others = (torch.randperm(len(s), generator=generator)[:size] for s in (real, subject))
            values.append(poly_mmd(real.features[some].double(), subject.features[others].double()))
        value = torch.stack(values)
        return {"kid": float(value.mean()), "kid_sd": float(value.std(correction=0))}

    def protocol(self) -> dict[str, Any]:
        return {"subsets": self.subsets, "subset_size": self.taken[0], "subset_size_real": self.taken[-1]}

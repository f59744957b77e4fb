"""The kernel distance between the features of real images and samples (KID)."""

from typing import Any

import torch
from torchmetrics.image.kid import poly_mmd

from oakleaf.config.types import PositiveInt
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric, require_images


class KernelDistance(Metric):
    """KID: the unbiased estimate of the squared MMD with the kernel `(x . y / d + 1)^3`.

    `kid` is the mean over random subsets, `kid_sd` the standard deviation over them. The kernel compares moments of the
    features up to the third order: it detects differences in these, and cannot detect differences in higher orders
    alone, nor copies of the training images.

    Args:
        subsets: the number of random subsets.
        size: images in a subset; fewer if the smaller set has fewer.

    Reference: Binkowski 2018, arXiv:1801.01401, section 4.
    """

    better = {"kid": "lower", "kid_sd": ""}

    def __init__(self, subsets: PositiveInt = 100, size: PositiveInt = 1000) -> None:
        self.subsets, self.size = subsets, size
        self.used_sizes: list[int] = []  # for the samples, then for the baseline

    def prepare(self, evaluation: EvaluationData) -> None:
        self.used_sizes = []

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        for images in (real, fake):
            require_images(10, images, "kid")
        size = min(self.size, len(real), len(fake))
        self.used_sizes.append(size)
        generator = torch.Generator().manual_seed(0)
        estimates = []
        for _ in range(self.subsets):
            real_rows, fake_rows = (torch.randperm(len(s), generator=generator)[:size] for s in (real, fake))
            estimates.append(poly_mmd(real.features[real_rows].double(), fake.features[fake_rows].double()))
        values = torch.stack(estimates)
        return {"kid": float(values.mean()), "kid_sd": float(values.std(correction=0))}

    def protocol(self) -> dict[str, Any]:
        sizes = {"subset_size": self.used_sizes[0], "subset_size_real": self.used_sizes[-1]}
        return {"subsets": self.subsets, **sizes}

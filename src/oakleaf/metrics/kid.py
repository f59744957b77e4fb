"""The kernel distance between the features of real images and samples (KID)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics.image.kid import poly_mmd

from oakleaf.config.types import PositiveInt
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric, require_images

RESAMPLED_SUBSETS = 10  # subsets for each standard error, since there are as many errors as halves of the samples


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
        self.used_size = 0

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        for images in (real, fake):
            require_images(10, images, "kid")
        self.used_size = min(self.size, len(real), len(fake))
        values = self._estimates(real.features, fake.features, self.subsets)
        return {"kid": float(values.mean()), "kid_sd": float(values.std(correction=0))}

    def resampler(self, real: ImageSet, fake: ImageSet) -> Callable[[Tensor], dict[str, float]]:
        subsets = min(self.subsets, RESAMPLED_SUBSETS)
        return lambda rows: {"kid": float(self._estimates(real.features, fake.features[rows], subsets).mean())}

    def _estimates(self, real: Tensor, fake: Tensor, subsets: int) -> Tensor:
        """The estimates of random subsets of features [N, d] and [M, d], [subsets] float64."""
        size = min(self.size, len(real), len(fake))
        generator = torch.Generator().manual_seed(0)
        estimates = []
        for _ in range(subsets):
            real_rows, fake_rows = (torch.randperm(len(s), generator=generator)[:size] for s in (real, fake))
            estimates.append(poly_mmd(real[real_rows].double(), fake[fake_rows].double()))
        return torch.stack(estimates)

    def protocol(self) -> dict[str, Any]:
        return {"subsets": self.subsets, "subset_size": self.used_size}

"""Whether a classifier can distinguish samples from real images."""

from typing import Any

import torch

from oakleaf.config.types import PositiveInt
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric, require_images
from oakleaf.metrics.neighbours import nearest, shuffled


class TwoSample(Metric):
    """The leave-one-out accuracy of a 1-NN classifier that distinguishes samples from real images by their features.

    It is 0.5 if they cannot be distinguished, 1 if they always can, and below 0.5 if samples are copies of real images.
    `two_sample_real` and `two_sample_fake` are the accuracies on real images and on samples. It detects both poor
    samples and copies, but not their mixture: copies and poor samples together may average to 0.5.

    Args:
        most: use at most this many images of each set; both sets always have equally many.

    Reference: Lopez-Paz & Oquab 2016, arXiv:1610.06545; Xu 2018, arXiv:1806.07755, section 2.2.
    """

    better = {"two_sample": "0.5", "two_sample_real": "0.5", "two_sample_fake": "0.5"}

    def __init__(self, most: PositiveInt = 2000) -> None:
        self.most = most

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        count = min(self.most, len(real), len(fake))
        require_images(10, real if len(real) < len(fake) else fake, "two_sample")
        features = torch.cat([s.features[shuffled(len(s), count)] for s in (real, fake)])
        is_real = torch.arange(2 * count) < count
        predicted = is_real[nearest(features, features, exclude_self=True).row[:, 0].cpu()]
        correct = (predicted == is_real).float()
        return {
            "two_sample": float(correct.mean()),
            "two_sample_real": float(correct[:count].mean()),
            "two_sample_fake": float(correct[count:].mean()),
        }

    def protocol(self) -> dict[str, Any]:
        return {"most": self.most, "neighbours": 1}

"""How different the samples are from each other."""

from math import log
from typing import Any

import torch
from torch import Tensor

from oakleaf.config.types import PositiveInt
from oakleaf.errors import UserError
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric, require_images
from oakleaf.metrics.neighbours import shuffled


class Diversity(Metric):
    """Class entropy, spread and Vendi score of the samples.

    - class_entropy: entropy of the predicted classes, divided by log K; 1 if all K classes are equally frequent. Only
      with an extractor that predicts classes.
    - spread: the mean distance between the features of two samples, divided by that of two real images.
    - vendi: the effective number of different samples: exp of the entropy of the eigenvalues of the matrix of cosine
      similarities, divided by N; of the features minus the mean of the real ones.

    It detects samples that resemble each other, and missing classes. It cannot detect poor quality: samples unlike any
    real image may be as different from each other.

    Args:
        most: use at most this many images of each set for spread and vendi.

    Reference: Friedman & Dieng 2022, arXiv:2210.02410, definition 3.1.
    """

    better = {"class_entropy": "higher", "spread": "baseline", "vendi": "baseline"}

    def __init__(self, most: PositiveInt = 2000) -> None:
        self.most = most

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        for images in (real, fake):
            require_images(10, images, "diversity")
        numbers = {}
        if fake.extracted.logits is not None:
            numbers["class_entropy"] = class_entropy(fake.extracted.logits)
        count = min(self.most, len(real), len(fake))
        real_features, fake_features = (s.features[shuffled(len(s), count)] for s in (real, fake))
        real_distance = float(torch.pdist(real_features).mean())
        if not real_distance:
            raise UserError("diversity: all real images have the same features, so there is no spread to compare with")
        spread = float(torch.pdist(fake_features).mean()) / real_distance
        return {**numbers, "spread": spread, "vendi": vendi(fake_features - real.features.mean(0))}

    def protocol(self) -> dict[str, Any]:
        return {"most": self.most}


def class_entropy(logits: Tensor) -> float:
    """Compute the entropy of the predicted classes of logits [N, K], divided by log K; 1 if K is 1."""
    counts = torch.bincount(logits.argmax(1), minlength=logits.shape[1]).double()
    share = counts[counts > 0] / counts.sum()
    return float((share * -share.log()).sum() / log(logits.shape[1])) if logits.shape[1] > 1 else 1.0


def vendi(features: Tensor) -> float:
    """Compute the Vendi score of features [N, d] with cosine similarity.

    The d x d matrix used here has the same eigenvalues, apart from zeros, as the N x N matrix K / N of the definition.
    """
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    values = torch.linalg.eigvalsh(unit.T @ unit / len(unit)).clamp(min=0)
    values = values[values > 0]
    return float((-(values * values.log()).sum()).exp())

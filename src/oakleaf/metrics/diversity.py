"""How different samples are from each other."""

from math import log
from typing import Any

import torch
from torch import Tensor

from oakleaf.config.types import PositiveInt
from oakleaf.errors import UserError
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric, at_least
from oakleaf.metrics.neighbours import shuffled


class Diversity(Metric):
    """class_entropy: entropy of the classes that the extractor sees, over log K, 1 if all are equally frequent; only
    where it knows classes. spread: mean distance between two samples' features over that between two real images.
    vendi: the effective number of different samples, exp of the entropy of the eigenvalues of the cosine similarities
    over N (Friedman & Dieng 2022, arXiv:2210.02410, definition 3.1), of features minus the real mean.
    """

    better = {"class_entropy": "higher", "spread": "", "vendi": "higher"}

    def __init__(self, most: PositiveInt = 2000) -> None:
        self.most = most

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        for sample in (real, fake):
            at_least(10, sample, "diversity")
        numbers = {}
        if fake.extracted.logits is not None:
            numbers["class_entropy"] = class_entropy(fake.extracted.logits)
        count = min(self.most, len(real), len(fake))
        a, b = (s.features[shuffled(len(s), count)] for s in (real, fake))
        if not (apart := float(_between(a))):
            raise UserError("diversity: all real images look the same to this extractor, so nothing can be as diverse")
        centre = real.features.mean(0)
        return {**numbers, "spread": float(_between(b)) / apart, "vendi": vendi(b - centre)}

    def protocol(self) -> dict[str, Any]:
        return {"most": self.most}


def class_entropy(logits: Tensor) -> float:
    """Entropy of the most likely classes of [N, K], over log K."""
    counts = torch.bincount(logits.argmax(1), minlength=logits.shape[1]).double()
    share = counts[counts > 0] / counts.sum()
    return float((share * -share.log()).sum() / log(logits.shape[1])) if logits.shape[1] > 1 else 1.0


def vendi(features: Tensor) -> float:
    """The Vendi score of [N, d] with cosine similarity; K / N and the d x d matrix have the same eigenvalues."""
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    values = torch.linalg.eigvalsh(unit.T @ unit / len(unit)).clamp(min=0)
    values = values[values > 0]
    return float((-(values * values.log()).sum()).exp())


def _between(features: Tensor) -> Tensor:
    return torch.pdist(features).mean()

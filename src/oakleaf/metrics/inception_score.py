"""The Inception Score, for the classes of any classifier."""

from typing import Any

import torch

from oakleaf.config.types import PositiveInt
from oakleaf.errors import UserError
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric, require_images


class InceptionScore(Metric):
    """Inception Score: `exp E KL(p(y|x) || p(y))`, mean and standard deviation over `splits` parts of the samples.

    It lies between 1 and the number of classes. It detects samples that the classifier is unsure of, and classes that
    are missing. It compares nothing with real images: one good image of each class, repeated, has the best score, and
    copies of the training images are not detected. Only with `extractor=inception` is it the published score.

    Args:
        splits: the number of parts.

    Reference: Salimans 2016, arXiv:1606.03498, section 4.
    """

    better = {"inception_score": "higher", "inception_score_sd": ""}

    def __init__(self, splits: PositiveInt = 10) -> None:
        self.splits = splits

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        if fake.extracted.logits is None:
            several = real.label is not None and len(real.label[real.label >= 0].unique()) > 1
            suitable = "extractor=classifier" if several else "data with labels, or extractor=inception"
            raise UserError(
                f"inception_score needs an extractor that predicts classes, and this one does not: use {suitable}"
            )
        require_images(self.splits * 2, fake, f"inception_score in {self.splits} splits")
        order = torch.randperm(len(fake), generator=torch.Generator().manual_seed(0))
        scores = []
        for rows in order.tensor_split(self.splits):
            log_p = fake.extracted.logits[rows].double().log_softmax(1)
            log_marginal = log_p.logsumexp(0) - torch.tensor(float(len(rows))).double().log()
            scores.append((log_p.exp() * (log_p - log_marginal)).sum(1).mean().exp())
        score = torch.stack(scores)
        return {"inception_score": float(score.mean()), "inception_score_sd": float(score.std(correction=0))}

    def protocol(self) -> dict[str, Any]:
        return {"splits": self.splits}

"""The log-likelihood by Parzen windows with which the first GANs were compared."""

from math import log, pi
from typing import Any

import torch
from torch import Tensor

from oakleaf.config.types import PositiveInt
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric, at_least
from oakleaf.metrics.neighbours import flat

PIECE = 500  # images whose distances to all samples are held at once


class Parzen(Metric):
    """Mean log-likelihood of test images, in nats, under Gaussian windows around `samples` samples. Goodfellow 2014,
    arXiv:1406.2661, section 5; code goodfeli/adversarial, parzen_ll.py.

    Pixels in [0, 1]; sigma is the best of ten, logspace(-1, 0), for the first `validation` validation images, which are
    those after the `first` that the run saw, or the last sixth of the training set (MNIST's 50,000 to 59,999 both);
    test images are those of the test split. Where there is none, both are parts of the training set, and the protocol
    says so. parzen_se: standard error over test images.

    It rewards blur: k-means centroids beat real images (Theis 2016, arXiv:1511.01844, section 3.2), so read it beside
    its calibration line and never alone.
    """

    better = {"parzen": "higher", "parzen_se": "", "parzen_sigma": ""}
    uses_extractor = False

    def __init__(self, samples: PositiveInt = 10_000, validation: PositiveInt = 1000) -> None:
        self.samples, self.validation = samples, validation
        self.sigmas = torch.logspace(-1, 0, 10, dtype=torch.float64)

    def prepare(self, evaluation: EvaluationData) -> None:
        validation, test, self.split = evaluation.validation_and_test()
        self.valid, self.test = flat(validation.pixels[: self.validation]), flat(test.pixels)

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        at_least(10, fake, "parzen")
        centres = flat(fake.pixels[: self.samples])
        means = log_likelihood(self.valid, centres, self.sigmas).mean(1)
        sigma = self.sigmas[means.argmax()]
        found = log_likelihood(self.test, centres, sigma[None])[0]
        error = float(found.std()) / len(found) ** 0.5
        return {"parzen": float(found.mean()), "parzen_se": error, "parzen_sigma": float(sigma)}

    def protocol(self) -> dict[str, Any]:
        return {"windows": self.samples, "sigma_by": len(self.valid), "test": len(self.test), "test_split": self.split}


def log_likelihood(x: Tensor, centres: Tensor, sigmas: Tensor) -> Tensor:
    """[S, N] in nats: log mean_j N(x; c_j, sigma^2 I) for x [N, d], centres [M, d] and each of sigmas [S]."""
    constant = 0.5 * x.shape[1] * (2 * pi * sigmas.square()).log() + log(len(centres))
    found = []
    for piece in x.split(PIECE):
        square = torch.cdist(piece, centres).square().to(torch.float64)
        found.append(torch.stack([torch.logsumexp(-square / (2 * sigma**2), 1) for sigma in sigmas]))
    return torch.cat(found, 1) - constant[:, None]

"""The log-likelihood by Parzen windows, by which the first GANs were compared."""

from collections.abc import Callable
from math import log, pi
from typing import Any

import torch
from torch import Tensor

from oakleaf.config.types import PositiveInt
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric, require_images
from oakleaf.metrics.neighbours import flat

BLOCK = 500  # images whose distances to all samples are held in memory at once
RESAMPLED_TEST = 1000  # test images for each standard error over windows


class Parzen(Metric):
    """The mean log-likelihood of test images, in nats, under Gaussian windows around the samples.

    - parzen: the mean over the test images, whose pixels are in [0, 1].
    - parzen_se: its standard error over test images.
    - parzen_sigma: the width of the windows, the best of ten (logspace from 0.1 to 1) for the validation images.

    Validation images are real images that the run was not trained on, or else the last sixth of the training set (for
    MNIST 50,000 to 59,999 in both cases); test images are those of the test split. Without a test split both are parts
    of the training set, and the protocol records it.

    The number rises with the number of windows, so samples and the baseline have equally many. Its standard error in
    the table is that over samples, `parzen_se` that over test images.

    It detects test images without a sample nearby. It cannot detect blur, which it rewards: k-means centroids score
    higher than real images (Theis 2016). Compare it with its real-data baseline, and never use it as the only number.

    Args:
        samples: the number of windows; fewer if there are fewer held-out real images.
        validation: the number of validation images.

    Reference: Goodfellow 2014, arXiv:1406.2661, section 5, and the code goodfeli/adversarial, parzen_ll.py;
    Theis 2016, arXiv:1511.01844, section 3.2.
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
        require_images(10, fake, "parzen")
        centres = flat(fake.pixels[: self.samples])
        validation_means = log_likelihood(self.valid, centres, self.sigmas).mean(1)
        sigma = self.sigmas[validation_means.argmax()]
        likelihood = log_likelihood(self.test, centres, sigma[None])[0]
        standard_error = float(likelihood.std()) / len(likelihood) ** 0.5
        self.windows = len(centres)
        return {"parzen": float(likelihood.mean()), "parzen_se": standard_error, "parzen_sigma": float(sigma)}

    def resampler(self, real: ImageSet, fake: ImageSet) -> Callable[[Tensor], dict[str, float]]:
        """Compute the likelihood of the first test images, with the sigma of all windows."""
        sigma = torch.tensor([self(real, fake)["parzen_sigma"]]).double()
        test, centres = self.test[:RESAMPLED_TEST], flat(fake.pixels)
        return lambda rows: {"parzen": float(log_likelihood(test, centres[rows[: self.samples]], sigma).mean())}

    def protocol(self) -> dict[str, Any]:
        return {"windows": self.windows, "sigma_by": len(self.valid), "test": len(self.test), "test_split": self.split}


def log_likelihood(x: Tensor, centres: Tensor, sigmas: Tensor) -> Tensor:
    """Compute the log-density of a mixture of equally weighted isotropic Gaussians.

    Args:
        x: points [N, d].
        centres: means of the Gaussians [M, d].
        sigmas: standard deviations [S]; each is used for all Gaussians.

    Returns:
        `log mean_j N(x; c_j, sigma^2 I)` in nats, [S, N].
    """
    constant = 0.5 * x.shape[1] * (2 * pi * sigmas.square()).log() + log(len(centres))
    blocks = []
    for block in x.split(BLOCK):
        square = torch.cdist(block, centres).square().to(torch.float64)
        blocks.append(torch.stack([torch.logsumexp(-square / (2 * sigma**2), 1) for sigma in sigmas]))
    return torch.cat(blocks, 1) - constant[:, None]

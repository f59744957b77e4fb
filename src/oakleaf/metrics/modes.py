"""Counts of modes, for data whose modes are known: `data=toy` and `data=stacked_mnist`."""

import logging
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from oakleaf.config.types import PositiveFloat, PositiveInt
from oakleaf.data import Images
from oakleaf.data.sources import torchvision_set
from oakleaf.data.stacked_mnist import StackedMNIST
from oakleaf.data.toy import Mixture, Points
from oakleaf.errors import UserError
from oakleaf.frozen.classifier import Training, accuracy, cached_classifier, predict
from oakleaf.frozen.tasks import Labels
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric, require_images

log = logging.getLogger(__name__)

MIN_ACCURACY = 0.992  # on MNIST's test images, of the classifier that the authors of Metz 2016 used


class Modes(Metric):
    """Modes found, share of high-quality samples and reverse KL, for Gaussian mixtures (`data=toy`).

    - high_quality: the share of samples within `radius` standard deviations of the nearest mean.
    - modes: the number of means that are nearest to at least one such sample.
    - reverse_kl: KL divergence in nats of the histogram of these samples over the means from the uniform distribution.
    - sd_ratio: the median distance to the nearest mean, divided by that of the true density (1.1774 sd); below 1 if the
      samples vary too little within a mode.

    They detect missing modes, wrong proportions and points between the modes. Only sd_ratio depends on how the points
    lie within a mode, and only by their distance from the mean.

    Args:
        samples: the number of samples.
        radius: in standard deviations.

    Reference: Srivastava 2017 (VEEGAN), arXiv:1705.07761, section 4.1; Lin 2017 (PacGAN), arXiv:1712.04086,
    section 4.1.
    """

    better = {"modes": "higher", "high_quality": "higher", "reverse_kl": "lower", "sd_ratio": ""}
    uses_extractor = False
    fixed_count = True
    has_errors = False

    def __init__(self, samples: PositiveInt = 2500, radius: PositiveFloat = 3.0) -> None:
        self.samples, self.radius = samples, radius

    def prepare(self, evaluation: EvaluationData) -> None:
        if not isinstance(evaluation.data, Points):
            raise UserError(f"modes can be counted on data=toy alone, not on {evaluation.data.name}")
        self.mixture: Mixture = evaluation.data.mixture

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        require_images(self.samples, fake, "modes")
        points = fake.pixels[: self.samples].flatten(1).double() * self.mixture.scale
        return count_modes(points, self.mixture.means, self.mixture.sd, self.radius)

    def protocol(self) -> dict[str, Any]:
        return {"samples": self.samples, "radius_sd": self.radius}


def count_modes(points: Tensor, means: Tensor, sd: float, radius: float = 3.0) -> dict[str, float]:
    """Compute the numbers of `Modes`.

    Args:
        points: samples [N, 2].
        means: means of the mixture [K, 2].
        sd: standard deviation of each Gaussian.
        radius: of high-quality samples, in standard deviations.
    """
    distance, mode = torch.cdist(points, means).min(1)
    good = distance < radius * sd
    share = torch.bincount(mode[good], minlength=len(means)).double() / max(1, int(good.sum()))
    return {
        "modes": float((share > 0).sum()),
        "high_quality": float(good.double().mean()),
        "reverse_kl": reverse_kl(share),
        "sd_ratio": float(distance.median() / (sd * (2 * torch.tensor(2.0).log()).sqrt())),
    }


def reverse_kl(share: Tensor) -> float:
    """Compute KL(share || uniform) in nats for shares [K]; infinite if all are 0."""
    if not share.any():
        return float("inf")
    positive = share[share > 0]
    return float((positive * (positive * len(share)).log()).sum())


class StackedModes(Metric):
    """The number of Stacked-MNIST's 1,000 modes that samples have, and KL(samples || uniform) in nats.

    A classifier of single digits is applied to each channel; its accuracy on MNIST's test images is in the protocol
    (that of the papers has an error of 0.8 %). KL depends on the number of samples: real images have 0.0239 at 26,000.

    They detect missing modes and wrong proportions. They cannot detect poor quality, because every image is counted for
    the mode that the classifier predicts.

    Args:
        training: how the classifier of digits is trained.
        samples: the number of samples; 26,000 as in the code of PacGAN.

    Reference: Metz 2016, arXiv:1611.02163, section 3.3; Lin 2017 (PacGAN), arXiv:1712.04086, section 4.2.
    """

    better = {"modes": "higher", "kl": "lower"}
    uses_extractor = False
    fixed_count = True
    has_errors = False
    baseline_is = "real triples; the classifier was trained on their digits"

    def __init__(self, training: Training, samples: PositiveInt = 26_000) -> None:
        self.training, self.samples = training, samples

    def prepare(self, evaluation: EvaluationData) -> None:
        data = evaluation.data
        if not isinstance(data, Images) or not isinstance(data.source, StackedMNIST):
            raise UserError(f"stacked_modes can be counted on data=stacked_mnist alone, not on {data.name}")
        train, test = (_single_digits(split, data.source.root, data) for split in ("train", "test"))
        labels = Labels(train.column("label"), 10)
        arguments = (train.images(), labels, self.training, train.digest, train.cache, evaluation.device)
        self.classifier, _, self.classifier_hash = cached_classifier(*arguments)
        images, rows = test.images(), torch.arange(test.count)
        self.accuracy = accuracy(self.classifier, images, Labels(test.column("label"), 10), rows, evaluation.device)
        if self.accuracy < MIN_ACCURACY:
            log.warning(
                "stacked_modes: the classifier of digits has an accuracy of %.1f %% on MNIST's test images, and the "
                "protocol requires %.1f %%; its errors are counted as modes",
                100 * self.accuracy,
                100 * MIN_ACCURACY,
            )
        self.device = evaluation.device

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        require_images(self.samples, fake, "stacked_modes")
        pixels = fake.pixels[: self.samples]
        logits = predict(self.classifier, pixels.flatten(0, 1)[:, None], self.device)
        digits = logits.argmax(1).unflatten(0, (-1, 3)).cpu()
        counts = torch.bincount(digits @ torch.tensor([100, 10, 1]), minlength=1000)
        return {"modes": float((counts > 0).sum()), "kl": reverse_kl(counts.double() / counts.sum())}

    def protocol(self) -> dict[str, Any]:
        accuracy = {"classifier": self.classifier_hash, "classifier_accuracy": self.accuracy}
        return {"samples": self.samples, **accuracy}


def _single_digits(split: Literal["train", "test"], root: Path, data: Images) -> Images:
    """MNIST's digits, resized as the stacked ones are."""
    source = partial(torchvision_set, name="MNIST", split=split)
    digits = Images(
        "mnist",
        source,
        str(root),
        data.size,
        1,
        crop=data.decoded_images.resize.crop,
        resample=data.decoded_images.resize.resample,
        cache=str(data.cache),
    )
    digits.setup()
    return digits

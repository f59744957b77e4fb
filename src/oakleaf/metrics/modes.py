"""Counting modes where they are known."""

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
from oakleaf.metrics.classifier import Training, accuracy, kept, reading
from oakleaf.metrics.classifier_targets import Labels
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric, at_least

log = logging.getLogger(__name__)

ENOUGH = 0.992  # of MNIST's test images, by the classifier of Metz 2016's authors


class Modes(Metric):
    """Modes found, share of high quality and reverse KL on the ring and the grid. Srivastava 2017 (VEEGAN),
    arXiv:1705.07761, section 4.1; Lin 2017 (PacGAN), arXiv:1712.04086, section 4.1.

    A sample is of high quality within `radius` standard deviations of its nearest mean; a mode is found if one such
    sample is nearest to it; reverse KL is that of their histogram from the uniform one, in nats. sd_ratio: the median
    distance to the nearest mean over that of the true density (1.1774 sd), below 1 where the variance has shrunk.
    """

    better = {"modes": "higher", "high_quality": "higher", "reverse_kl": "lower", "sd_ratio": ""}
    uses_extractor = False

    def __init__(self, samples: PositiveInt = 2500, radius: PositiveFloat = 3.0) -> None:
        self.samples, self.radius = samples, radius

    def prepare(self, evaluation: EvaluationData) -> None:
        if not isinstance(evaluation.data, Points):
            raise UserError(f"modes are known of data=toy alone, not of {evaluation.data.name}")
        self.mixture: Mixture = evaluation.data.mixture

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        at_least(self.samples, fake, "modes")
        points = fake.pixels[: self.samples].flatten(1).double() * self.mixture.scale
        return count_modes(points, self.mixture.means, self.mixture.sd, self.radius)

    def protocol(self) -> dict[str, Any]:
        return {"samples": self.samples, "radius_sd": self.radius}


def count_modes(points: Tensor, means: Tensor, sd: float, radius: float = 3.0) -> dict[str, float]:
    """The numbers of `Modes` for points [N, 2] and means [K, 2]."""
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
    """KL(share || uniform) in nats; infinite if there is nothing."""
    if not share.any():
        return float("inf")
    some = share[share > 0]
    return float((some * (some * len(share)).log()).sum())


class StackedModes(Metric):
    """Of Stacked-MNIST's 1,000 modes those that are found, and KL(samples || uniform) in nats. Metz 2016,
    arXiv:1611.02163, section 3.3; 26,000 samples as in the code of Lin 2017 (PacGAN), arXiv:1712.04086.

    A classifier of single digits reads each channel; its error on MNIST's test images is in the protocol (the papers'
    makes 0.8 %). KL depends on the number of samples: perfect ones have 0.0239 at 26,000.
    """

    better = {"modes": "higher", "kl": "lower"}
    uses_extractor = False

    def __init__(self, training: Training, samples: PositiveInt = 26_000) -> None:
        self.training, self.samples = training, samples

    def prepare(self, evaluation: EvaluationData) -> None:
        data = evaluation.data
        if not isinstance(data, Images) or not isinstance(data.source, StackedMNIST):
            raise UserError(f"stacked_modes are known of data=stacked_mnist alone, not of {data.name}")
        train, test = _digits("train", data.source.root, data), _digits("test", data.source.root, data)
        labels = Labels(train.rows["label"], 10)
        learned = (train.rows["image"], labels, self.training, train.digest, train.cache, evaluation.device)
        self.reader, _, self.reader_hash = kept(*learned)
        images, rows = test.rows["image"], torch.arange(len(test.rows["image"]))
        self.accuracy = accuracy(self.reader, images, Labels(test.rows["label"], 10), rows, evaluation.device)
        if self.accuracy < ENOUGH:
            log.warning(
                "stacked_modes: the reader of digits is right in %.1f %% of MNIST's test images, while the protocol "
                "wants %.1f; its mistakes are counted as modes",
                100 * self.accuracy,
                100 * ENOUGH,
            )
        self.device = evaluation.device

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        at_least(self.samples, fake, "stacked_modes")
        pixels = fake.pixels[: self.samples]
        logits = reading(self.reader, pixels.flatten(0, 1)[:, None], self.device)
        digits = logits.argmax(1).unflatten(0, (-1, 3)).cpu()
        counts = torch.bincount(digits @ torch.tensor([100, 10, 1]), minlength=1000)
        return {"modes": float((counts > 0).sum()), "kl": reverse_kl(counts.double() / counts.sum())}

    def protocol(self) -> dict[str, Any]:
        return {"samples": self.samples, "reader": self.reader_hash, "reader_accuracy": self.accuracy}


def _digits(split: Literal["train", "test"], root: Path, data: Images) -> Images:
    """MNIST, brought to size as the stacked digits are."""
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

"""A Measure: numbers about samples beside real images."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from oakleaf.errors import UserError
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.image_set import ImageSet

Better = Literal["lower", "higher", ""]


class Metric(ABC):
    """Called twice: with the samples, and for calibration (`line`) with real images in their place.

    better: the numbers by name, and which way is better. uses_extractor: whether they depend on features, so that the
    extractor's name belongs to theirs. compares: whether samples and real images are compared, so that there is a line
    for real images. of_samples: whether these samples are measured at all, and not what the networks make of the data.
    samples: how many its protocol wants at least.
    """

    better: Mapping[str, Better]
    uses_extractor = True
    compares = True
    of_samples = True
    samples: int = 0

    def prepare(self, evaluation: EvaluationData) -> None:  # noqa: B027, most need nothing
        """Called once before all else: take what is needed besides the samples, or say what is missing.

        Raises:
            UserError: this can't be measured here.
        """

    @abstractmethod
    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        """The numbers by name; `subject` is compared with `real`."""

    def baseline(self, evaluation: EvaluationData) -> dict[str, float]:
        """The same numbers of real images, to compare with."""
        return self(*evaluation.baseline)

    def protocol(self) -> dict[str, Any]:
        """What has to be known to compare its numbers with others."""
        return {}

    def pictures(self, real: ImageSet, fake: ImageSet) -> dict[str, Image.Image]:
        """What there is to look at, by file name."""
        return {}


def at_least(count: int, sample: ImageSet, why: str) -> None:
    """Raises:
    UserError: fewer images than that.
    """
    if len(sample) < count:
        more = "(fake=, real=, or a larger set)"
        raise UserError(f"{len(sample):,} images are too few: {why} needs at least {count:,} {more}")


def labelled(sample: ImageSet, otherwise: str) -> tuple[Tensor, Tensor]:
    """Rows with a label, and their labels.

    Raises:
        UserError: there are none.
    """
    if sample.label is None or not bool((sample.label >= 0).any()):
        raise UserError(otherwise)
    rows = torch.nonzero(sample.label >= 0).flatten()
    return rows, sample.label[rows]

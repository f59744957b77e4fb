"""The base class of all metrics, and checks that several of them share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from oakleaf.errors import UserError
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.image_set import ImageSet

Better = Literal["lower", "higher", "0.5", "baseline", ""]


class Metric(ABC):
    """Compute one or more named numbers from real images and samples.

    `evaluate_metrics` calls `prepare` first, then the metric itself with the samples as `fake`, then `baseline`, which
    computes the same numbers for held-out real images, and `resampler` for the standard errors.

    Attributes:
        better: the names of the numbers, each with what is best: "lower", "higher", a number such as "0.5", "baseline"
            if it is best to be near the baseline, or "" if the number alone says nothing about quality.
        uses_extractor: whether the numbers depend on features; the extractor's suffix is then appended to their names.
        has_baseline: whether the numbers can be computed for real images in place of the samples.
        baseline_is: what the baseline is, if it is not that of held-out real images in place of the samples.
        has_errors: whether standard errors can be computed from random halves of the samples.
        uses_samples: whether the numbers depend on the samples in `EvaluationData.fake`. False for metrics of the
            networks, and for metrics that generate samples of their own for given conditions.
        samples: the number of samples that the metric's protocol requires; 0 if any number will do.
        fixed_count: whether the metric uses exactly `samples` samples, however many there are. All other metrics get as
            many samples as there are held-out real images, because most numbers depend on how many images there are.
    """

    better: Mapping[str, Better]
    uses_extractor = True
    has_baseline = True
    baseline_is: str = ""
    has_errors = True
    uses_samples = True
    samples: int = 0
    fixed_count = False

    def prepare(self, evaluation: EvaluationData) -> None:  # noqa: B027, most need nothing
        """Fetch what the metric needs besides `real` and `fake`, and check that it can be computed.

        Args:
            evaluation: the model, the data and the extractor of this evaluation.

        Raises:
            UserError: the metric does not apply to this model or these data.
        """

    @abstractmethod
    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        """Compute the numbers.

        Args:
            real: the real images to compare with.
            fake: the samples, or held-out real images in their place.

        Returns:
            The numbers by name; the names are those in `better`.

        Raises:
            UserError: the images are too few, or lack what the metric needs.
        """

    def baseline(self, evaluation: EvaluationData) -> dict[str, float]:
        """Compute the real-data baseline: the same numbers for held-out real images in place of the samples."""
        return self(evaluation.real, evaluation.held_out)

    def resampler(self, real: ImageSet, fake: ImageSet) -> Callable[[Tensor], dict[str, float]]:
        """Return a function that computes the numbers for some rows of `fake`, for standard errors.

        A subclass overrides it where calling the metric itself would take too long or need more images.
        """
        return lambda rows: self(real, fake[rows])

    def protocol(self) -> dict[str, Any]:
        """Return the metric's settings, without which its numbers cannot be compared; stored in `metrics.json`."""
        return {}

    def pictures(self, real: ImageSet, fake: ImageSet) -> dict[str, Image.Image]:
        """Return pictures that illustrate the numbers, by file name without its ending."""
        return {}


def require_images(count: int, images: ImageSet, purpose: str) -> None:
    """Check that a set has enough images.

    Args:
        count: the smallest number of images allowed.
        images: the set to check.
        purpose: what needs them; the subject of the error message.

    Raises:
        UserError: the set has fewer images.
    """
    if len(images) < count:
        more = "(fake=, real=, or a larger set)"
        raise UserError(f"{len(images):,} images are too few: {purpose} needs at least {count:,} {more}")


def labelled_rows(images: ImageSet, error: str) -> tuple[Tensor, Tensor]:
    """Select the images that have a label.

    Args:
        images: the set to select from.
        error: the message if no image has a label.

    Returns:
        The indices of those images [M], and their labels [M].

    Raises:
        UserError: no image has a label.
    """
    if images.label is None or not bool((images.label >= 0).any()):
        raise UserError(error)
    rows = torch.nonzero(images.label >= 0).flatten()
    return rows, images.label[rows]

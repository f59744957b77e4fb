"""The Frechet distance of each class."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from oakleaf.errors import UserError
from oakleaf.metrics.conditional import NO_SAMPLE_LABELS
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.fid import covariance_root, frechet_distance
from oakleaf.metrics.image_set import ImageSet, moments
from oakleaf.metrics.metric import Metric


class IntraFrechetDistance(Metric):
    """Intra-FID: the Frechet distance between samples and real images of each class.

    - intra_fid: the mean over classes.
    - intra_fid_worst: the largest of them. `metrics.json` has all of them.

    It detects poor quality and missing variety within single classes, and samples that show the wrong class. It cannot
    detect wrong proportions of the classes. Each class needs one image more than there are features.

    Reference: Miyato & Koyama 2018, arXiv:1802.05637, section 4.1.
    """

    better = {"intra_fid": "lower", "intra_fid_worst": "lower"}

    def prepare(self, evaluation: EvaluationData) -> None:
        self.names = list(evaluation.data.classes)
        self.by_class: dict[str, float] = {}

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        for images in (real, fake):
            self._require_images(images)
        distances = self._distances(real)(fake)
        self.by_class = {self.names[k]: round(float(distance), 4) for k, distance in enumerate(distances)}
        return _numbers(distances)

    def resampler(self, real: ImageSet, fake: ImageSet) -> Callable[[Tensor], dict[str, float]]:
        distances = self._distances(real)
        return lambda rows: _numbers(distances(fake[rows]))

    def _distances(self, real: ImageSet) -> Callable[[ImageSet], Tensor]:
        """A function that computes the distance of each class, [K]."""
        by_class = [real[_rows(real, k)].moments for k in range(len(self.names))]
        roots = [covariance_root(one.covariance) for one in by_class]

        def distances(fake: ImageSet) -> Tensor:
            own = [moments(fake.features[_rows(fake, k)]) for k in range(len(self.names))]
            return torch.tensor([frechet_distance(*three) for three in zip(by_class, own, roots)])

        return distances

    def _require_images(self, images: ImageSet) -> None:
        """Check that each class has enough images.

        Raises:
            UserError: there are no labels, or too few images of a class.
        """
        if images.label is None or not len(self.names):
            raise UserError(NO_SAMPLE_LABELS)
        needed = images.features.shape[1] + 1
        counts = torch.bincount(images.label[images.label >= 0], minlength=len(self.names))
        rarest = int(counts.argmin())
        if counts[rarest] < needed:
            raise UserError(
                f"class {self.names[rarest]!r} has {int(counts[rarest])} images, and the covariance of {needed - 1} "
                f"features needs {needed} (fake=, real=, or a larger set)"
            )

    def protocol(self) -> dict[str, Any]:
        return {"by_class": self.by_class}


def _rows(images: ImageSet, label: int) -> Tensor:
    assert images.label is not None
    return torch.nonzero(images.label == label).flatten()


def _numbers(distances: Tensor) -> dict[str, float]:
    return {"intra_fid": float(distances.mean()), "intra_fid_worst": float(distances.max())}

"""Whether samples are copies, and whether they can be told from real images at all."""

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from oakleaf.config.types import PositiveInt
from oakleaf.errors import UserError
from oakleaf.image_grid import from_bytes, render
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric, at_least
from oakleaf.metrics.neighbours import Nearest, merged, nearest, shuffled

HUNDRED = 100  # real images of which one is nearest


class Memorisation(Metric):
    """Euclidean distance in pixels to the nearest training image, over that of real images to each other; mirrored
    images too, where the run mirrored its own (`data.flip`).

    nearest_training: the ratio of the medians, about 1 where samples are as far from the data as new data are, and
    near 0 for copies. copied: share of samples as near to a training image as the nearest 1 in 100 real images are to
    each other, twins aside; about 0.01 for new data; not for less than 100 real images. No paper's numbers; the
    picture is that of Goodfellow 2014, arXiv:1406.2661, figure 2, for the samples that are nearest: each before its
    neighbours.
    """

    better = {"nearest_training": "", "copied": "lower"}
    uses_extractor = False

    def __init__(self, most: PositiveInt = 2000, shown: PositiveInt = 12, neighbours: PositiveInt = 5) -> None:
        self.most, self.shown, self.neighbours = most, shown, neighbours

    def prepare(self, evaluation: EvaluationData) -> None:
        if not evaluation.of_the_run:
            raise UserError("needs the images that the run learned from, and these are others")
        self.mirrors = evaluation.data.mirrors
        rest = torch.ones(len(evaluation.data.rows["image"]), dtype=torch.bool)
        rest[evaluation.rows] = False
        self.rest = evaluation.data.rows["image"][rest]  # no other measure looks at these, but samples may copy them

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        at_least(10, real, "memorisation")
        rows = shuffled(len(real), self.most)
        own = self._nearest(real, real.pixels[rows], 1, own=rows).distance[:, 0]
        own = own[own > 0]
        if not len(own):
            raise UserError("each real image has a twin, which leaves no distance to compare with")
        found = self._nearest(real, fake.pixels[shuffled(len(fake), self.most)], 1).distance[:, 0]
        ratio = {"nearest_training": float(found.median() / own.median())}
        if len(real) < HUNDRED:
            return ratio
        return {**ratio, "copied": float((found <= own.quantile(1 / HUNDRED)).float().mean())}

    def _nearest(self, real: ImageSet, pixels: Tensor, k: int, own: Tensor | None = None) -> Nearest:
        """Neighbours among all training images: those in `real`, then the rest. own: which of the former the pixels are
        themselves, and are no neighbours of."""
        found = self._among(real, pixels, k, own)
        if not self.mirrors:
            return found
        return _each_once(merged(found, self._among(real, pixels.flip(3), k, own), 2 * k), k)

    def _among(self, real: ImageSet, pixels: Tensor, k: int, own: Tensor | None) -> Nearest:
        near = nearest(pixels, real.pixels, k if own is None else k + 1)
        near = near if own is None else _without(near, own, k)
        if not len(self.rest):
            return near
        far = nearest(pixels, self.rest, min(k, len(self.rest)))
        return merged(near, Nearest(far.distance, far.row + len(real)), k)

    def pictures(self, real: ImageSet, fake: ImageSet) -> dict[str, Image.Image]:
        some = fake.pixels[shuffled(len(fake), self.most)]
        found = self._nearest(real, some, min(self.neighbours, len(real)))
        first = found.distance[:, 0].argsort()[: self.shown]
        rows = [torch.cat([some[row][None], *[self._image(real, n) for n in found.row[row]]]) for row in first.tolist()]
        return {"neighbours": render(from_bytes(torch.cat(rows)), columns=found.row.shape[1] + 1)}

    def _image(self, real: ImageSet, number: Tensor) -> Tensor:
        row = int(number)
        return (real.pixels[row] if row < len(real) else self.rest[row - len(real)])[None]

    def protocol(self) -> dict[str, Any]:
        return {"most": self.most, "distance": "Euclidean, pixels", "mirrored": self.mirrors}


def _without(found: Nearest, own: Tensor, k: int) -> Nearest:
    """The k nearest of k + 1 that are not the one itself."""
    itself = found.row == own.to(found.row.device)[:, None]
    order = itself.int().argsort(dim=1, stable=True)[:, :k]
    return Nearest(found.distance.gather(1, order), found.row.gather(1, order))


def _each_once(found: Nearest, k: int) -> Nearest:
    """The k nearest of those that are named twice."""
    again = (found.row[:, :, None] == found.row[:, None, :]).tril(-1).any(2)
    order = again.int().argsort(dim=1, stable=True)[:, :k]
    return Nearest(found.distance.gather(1, order), found.row.gather(1, order))


class TwoSample(Metric):
    """Leave-one-out accuracy of a 1-NN classifier that tells samples from real images, in features: 0.5 if nobody can,
    1 if everybody can, below 0.5 for copies. Lopez-Paz & Oquab 2016, arXiv:1610.06545; Xu 2018, arXiv:1806.07755,
    section 2.2."""

    better = {"two_sample": "lower", "two_sample_real": "lower", "two_sample_fake": "lower"}

    def __init__(self, most: PositiveInt = 2000) -> None:
        self.most = most

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        count = min(self.most, len(real), len(fake))
        at_least(10, real if len(real) < len(fake) else fake, "two_sample")
        both = torch.cat([s.features[shuffled(len(s), count)] for s in (real, fake)])
        is_real = torch.arange(2 * count) < count
        said = is_real[nearest(both, both, themselves=True).row[:, 0].cpu()]
        right = (said == is_real).float()
        return {
            "two_sample": float(right.mean()),
            "two_sample_real": float(right[:count].mean()),
            "two_sample_fake": float(right[count:].mean()),
        }

    def protocol(self) -> dict[str, Any]:
        return {"most": self.most, "neighbours": 1}

"""Whether samples are copies, and whether they can be told from real images at all."""

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from oakleaf.metrics.measure import Measure, at_least
from oakleaf.metrics.neighbours import flat, nearest, shuffled
from oakleaf.metrics.sample import Sample
from oakleaf.numbers import Count
from oakleaf.pictures import from_bytes, picture


class Memorisation(Measure):
    """Euclidean distance in pixels to the nearest training image, over that of real images to each other.

    nearest_training: the ratio of the medians, about 1 where samples are as far from the data as new data are, and
    near 0 for copies. copied: share of samples nearer to a training image than all but 1 in 100 real images are to each
    other; about 0.01 for new data. The picture shows the samples that are nearest, each before its neighbours.
    """

    better = {"nearest_training": "", "copied": "lower"}
    uses_extractor = False

    def __init__(self, most: Count = 2000, shown: Count = 12, neighbours: Count = 5) -> None:
        self.most, self.shown, self.neighbours = most, shown, neighbours

    def __call__(self, real: Sample, subject: Sample) -> dict[str, float]:
        at_least(100, real, "memorisation")
        own, training = self._own(real)
        found = nearest(flat(subject.pixels[shuffled(len(subject), self.most)]), training).distance[:, 0]
        near = own.quantile(0.01)
        return {
            "nearest_training": float(found.median() / own.median()),
            "copied": float((found < near).float().mean()),
        }

    def _own(self, real: Sample) -> tuple[Tensor, Tensor]:
        """Distances of some real images to all others, and all of them, flat."""
        training = flat(real.pixels)
        some = shuffled(len(real), self.most)
        return nearest(training[some], training, 2).distance[:, 1], training  # the first is the image itself

    def pictures(self, real: Sample, subject: Sample) -> dict[str, Image.Image]:
        some = subject.pixels[shuffled(len(subject), self.most)]
        found = nearest(flat(some), flat(real.pixels), min(self.neighbours, len(real)))
        first = found.distance[:, 0].argsort()[: self.shown]
        rows = [torch.cat([some[row][None], real.pixels[found.row[row].cpu()]]) for row in first.tolist()]
        return {"neighbours": picture(from_bytes(torch.cat(rows)), columns=found.row.shape[1] + 1)}

    def protocol(self) -> dict[str, Any]:
        return {"most": self.most, "distance": "Euclidean, pixels"}


class TwoSample(Measure):
    """Leave-one-out accuracy of a 1-NN classifier that tells samples from real images, in features: 0.5 if nobody can,
    1 if everybody can, below 0.5 for copies. Lopez-Paz & Oquab 2016, arXiv:1610.06545; Xu 2018, arXiv:1806.07755,
    section 2.2."""

    better = {"two_sample": "lower", "two_sample_real": "lower", "two_sample_fake": "lower"}

    def __init__(self, most: Count = 2000) -> None:
        self.most = most

    def __call__(self, real: Sample, subject: Sample) -> dict[str, float]:
        count = min(self.most, len(real), len(subject))
        at_least(10, real if len(real) < len(subject) else subject, "two_sample")
        both = torch.cat([s.features[shuffled(len(s), count)] for s in (real, subject)])
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

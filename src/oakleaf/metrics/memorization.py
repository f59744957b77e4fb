"""Copies of training images, and whether a classifier can distinguish samples from real images."""

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from oakleaf.config.types import PositiveInt
from oakleaf.errors import UserError
from oakleaf.figures.grid import Layout, Panel, draw_grid
from oakleaf.image_grid import are_points, from_bytes
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric, require_images
from oakleaf.metrics.neighbours import Nearest, merge_nearest, nearest, shuffled

QUANTILE = 1 / 100  # of the distances between real images; a sample at most as far from one is a copy
MIN_REAL = 100  # real images that the quantile needs


class Memorisation(Metric):
    """Euclidean distance in pixels from a sample to the nearest training image, compared with that of real images.

    - nearest_training: the median distance of the samples, divided by the median distance between nearest real images:
      about 1 for new images, near 0 for copies.
    - copied: the share of samples at most as far from a training image as the nearest 1 % of real images are from each
      other, duplicates not counted: about 0.01 for new images. Needs 100 real images.

    If the run mirrored its training images (`data.flip`), mirrored copies are found too. The picture `neighbours` shows
    the samples with the smallest distances, each followed by its nearest training images, as in Goodfellow 2014.

    It detects copies that agree pixel by pixel. It cannot detect copies that are shifted or have other colours, nor
    poor quality: noise is far from all training images. Neither number is from a paper.

    Args:
        most: use at most this many samples, and real images for the comparison.
        shown: samples in the picture.
        neighbours: training images beside each sample of the picture.

    Reference: Goodfellow 2014, arXiv:1406.2661, figure 2.
    """

    better = {"nearest_training": "", "copied": "lower"}
    uses_extractor = False

    def __init__(self, most: PositiveInt = 2000, shown: PositiveInt = 12, neighbours: PositiveInt = 5) -> None:
        self.most, self.shown, self.neighbours = most, shown, neighbours

    def prepare(self, evaluation: EvaluationData) -> None:
        if not evaluation.is_training_data:
            raise UserError("needs the images that the run was trained on, and these are others")
        self.mirrors = evaluation.data.mirrors
        unused = torch.ones(evaluation.data.count, dtype=torch.bool)
        unused[evaluation.rows] = False
        # training images outside `real` may be copied too
        self.other_pixels = evaluation.data.images(torch.nonzero(unused).flatten())

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        require_images(10, real, "memorisation")
        rows = shuffled(len(real), self.most)
        real_distance = self._nearest(real, real.pixels[rows], 1, own=rows).distance[:, 0]
        real_distance = real_distance[real_distance > 0]
        if not len(real_distance):
            raise UserError("each real image has a duplicate, so there is no distance to compare with")
        distance = self._nearest(real, fake.pixels[shuffled(len(fake), self.most)], 1).distance[:, 0]
        numbers = {"nearest_training": float(distance.median() / real_distance.median())}
        if len(real) < MIN_REAL:
            return numbers
        return {**numbers, "copied": float((distance <= real_distance.quantile(QUANTILE)).float().mean())}

    def _nearest(self, real: ImageSet, pixels: Tensor, k: int, own: Tensor | None = None) -> Nearest:
        """The k nearest training images, mirrored ones included.

        Args:
            real: real images; their indices come first, those of `other_pixels` follow.
            pixels: the query images [N, C, H, W].
            k: the number of neighbours.
            own: if the queries are real images, their indices in `real` [N]; no image is its own neighbour.
        """
        neighbours = self._nearest_unmirrored(real, pixels, k, own)
        if not self.mirrors:
            return neighbours
        mirrored = self._nearest_unmirrored(real, pixels.flip(3), k, own)
        return _without_repeats(merge_nearest(neighbours, mirrored, 2 * k), k)

    def _nearest_unmirrored(self, real: ImageSet, pixels: Tensor, k: int, own: Tensor | None) -> Nearest:
        neighbours = nearest(pixels, real.pixels, k if own is None else k + 1)
        neighbours = neighbours if own is None else _without_self(neighbours, own, k)
        if not len(self.other_pixels):
            return neighbours
        others = nearest(pixels, self.other_pixels, min(k, len(self.other_pixels)))
        return merge_nearest(neighbours, Nearest(others.distance, others.row + len(real)), k)

    def pictures(self, real: ImageSet, fake: ImageSet) -> dict[str, Image.Image]:
        if are_points(fake.pixels):
            return {}
        samples = fake.pixels[shuffled(len(fake), self.most)]
        neighbours = self._nearest(real, samples, min(self.neighbours, len(real)))
        order = neighbours.distance[:, 0].argsort()[: self.shown].tolist()
        rows = [torch.cat([samples[i][None], *[self._image(real, n) for n in neighbours.row[i]]]) for i in order]
        title, note = "Samples nearest to training images", "distance in pixels"
        return {"neighbours": neighbours_figure(torch.cat(rows), neighbours.row.shape[1], title, note)}

    def _image(self, real: ImageSet, index: Tensor) -> Tensor:
        """The training image with this index, [1, C, H, W]."""
        row = int(index)
        return (real.pixels[row] if row < len(real) else self.other_pixels[row - len(real)])[None]

    def protocol(self) -> dict[str, Any]:
        return {"most": self.most, "distance": "Euclidean, pixels", "mirrored": self.mirrors}


def neighbours_figure(pixels: Tensor, neighbours: int, title: str, note: str = "") -> Image.Image:
    """Draw samples beside their nearest training images.

    Args:
        pixels: a row for each sample, the sample and its neighbours as stored: [N * (1 + neighbours), C, H, W].
        neighbours: training images beside each sample.
        title: text above the picture.
        note: text in the title's line, on the right.
    """
    names = ["sample", *["nearest training images"] * neighbours]
    panel = Panel(columns=1 + neighbours, column_names=names)
    return draw_grid(from_bytes(pixels), Layout((panel,), title, note))


def _without_self(neighbours: Nearest, own: Tensor, k: int) -> Nearest:
    """The k nearest of k + 1 neighbours that are not the query itself."""
    is_self = neighbours.row == own.to(neighbours.row.device)[:, None]
    order = is_self.int().argsort(dim=1, stable=True)[:, :k]
    return Nearest(neighbours.distance.gather(1, order), neighbours.row.gather(1, order))


def _without_repeats(neighbours: Nearest, k: int) -> Nearest:
    """The k nearest of neighbours some of which are listed twice."""
    repeated = (neighbours.row[:, :, None] == neighbours.row[:, None, :]).tril(-1).any(2)
    order = repeated.int().argsort(dim=1, stable=True)[:, :k]
    return Nearest(neighbours.distance.gather(1, order), neighbours.row.gather(1, order))


class TwoSample(Metric):
    """The leave-one-out accuracy of a 1-NN classifier that distinguishes samples from real images by their features.

    It is 0.5 if they cannot be distinguished, 1 if they always can, and below 0.5 if samples are copies of real images.
    `two_sample_real` and `two_sample_fake` are the accuracies on real images and on samples. It detects both poor
    samples and copies, but not their mixture: copies and poor samples together may average to 0.5.

    Args:
        most: use at most this many images of each set; both sets always have equally many.

    Reference: Lopez-Paz & Oquab 2016, arXiv:1610.06545; Xu 2018, arXiv:1806.07755, section 2.2.
    """

    better = {"two_sample": "lower", "two_sample_real": "lower", "two_sample_fake": "lower"}

    def __init__(self, most: PositiveInt = 2000) -> None:
        self.most = most

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        count = min(self.most, len(real), len(fake))
        require_images(10, real if len(real) < len(fake) else fake, "two_sample")
        features = torch.cat([s.features[shuffled(len(s), count)] for s in (real, fake)])
        is_real = torch.arange(2 * count) < count
        predicted = is_real[nearest(features, features, exclude_self=True).row[:, 0].cpu()]
        correct = (predicted == is_real).float()
        return {
            "two_sample": float(correct.mean()),
            "two_sample_real": float(correct[:count].mean()),
            "two_sample_fake": float(correct[count:].mean()),
        }

    def protocol(self) -> dict[str, Any]:
        return {"most": self.most, "neighbours": 1}

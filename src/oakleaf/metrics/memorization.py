"""Copies of training images, in pixels and in feature space."""

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from oakleaf.config.types import PositiveInt
from oakleaf.errors import UserError
from oakleaf.figures.grid import Layout, Panel, draw_grid
from oakleaf.image_grid import are_points, from_bytes
from oakleaf.metrics.copy_search import CopySearch, leave_one_out
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric, require_images
from oakleaf.metrics.neighbours import nearest, shuffled

QUANTILE = 1 / 100  # of the distances between real images; a sample at most as far from one is a copy
MIN_REAL = 100  # real images that the quantile needs


class Memorisation(Metric):
    """Distance in pixels from a sample to the nearest training image, compared with that of real images.

    - nearest_training: the median distance of the samples, divided by the median distance between nearest real images:
      about 1 for new images, near 0 for copies.
    - copied: the share of samples at most as far from a training image as the nearest 1 % of real images are from each
      other, duplicates not counted: about 0.01 for new images. Needs 100 real images.

    Distances are the smallest over small shifts (`CopySearch`); if the run mirrored its training images (`data.flip`),
    over mirrored images too. All training images are searched. The baseline is that of real training images, each
    compared with the others. The picture `neighbours` shows the samples with the smallest distances, each followed by
    its nearest training images, as in Goodfellow 2014.

    It detects copies that agree pixel by pixel, up to a shift of a fourteenth of a side and moderate noise. It cannot
    detect copies that are rotated, enlarged or recoloured (`metric=copies` compares features), nor poor quality: noise
    is far from all training images. Neither number is from a paper.

    Args:
        most: use at most this many samples, and real images for the comparison.
        shown: samples in the picture.
        neighbours: training images beside each sample of the picture.

    Reference: Goodfellow 2014, arXiv:1406.2661, figure 2.
    """

    better = {"nearest_training": "baseline", "copied": "lower"}
    uses_extractor = False

    def __init__(self, most: PositiveInt = 2000, shown: PositiveInt = 12, neighbours: PositiveInt = 5) -> None:
        self.most, self.shown, self.neighbours = most, shown, neighbours

    def prepare(self, evaluation: EvaluationData) -> None:
        if not evaluation.is_training_data:
            raise UserError("needs the images that the run was trained on, and these are others")
        data = evaluation.data
        self.search = CopySearch(data.images, data.count, data.mirrors)
        self.real_distance: Tensor | None = None

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        return self._numbers(self._distances(fake), self._distances_of_real(real))

    def resampler(self, real: ImageSet, fake: ImageSet) -> Callable[[Tensor], dict[str, float]]:
        distance, reference = self._distances(fake), self._distances_of_real(real)
        return lambda rows: self._numbers(distance[rows[rows < len(distance)]], reference)

    def _numbers(self, distance: Tensor, reference: Tensor) -> dict[str, float]:
        numbers = {"nearest_training": float(distance.median() / reference.median())}
        if len(reference) < MIN_REAL:
            return numbers
        return {**numbers, "copied": float((distance <= reference.quantile(QUANTILE)).float().mean())}

    def _distances_of_real(self, real: ImageSet) -> Tensor:
        """Distances of reference images to the nearest other training images, computed once."""
        if self.real_distance is None:
            require_images(10, real, "memorisation")
            assert real.rows is not None, "real images have rows"
            self.real_distance = leave_one_out(self.search, real.rows, self.most)
        if not len(self.real_distance):
            raise UserError("each real image has a duplicate, so there is no distance to compare with")
        return self.real_distance

    def _distances(self, images: ImageSet) -> Tensor:
        """Distances of samples, or of real images without themselves, to the nearest training image."""
        chosen = shuffled(len(images), self.most)
        own = None if images.rows is None else images.rows[chosen]
        return self.search(images.pixels[chosen], 1, own).distance[:, 0]

    def pictures(self, real: ImageSet, fake: ImageSet) -> dict[str, Image.Image]:
        if are_points(fake.pixels):
            return {}
        samples = fake.pixels[shuffled(len(fake), self.most)]
        neighbours = self.search(samples, self.neighbours)
        order = neighbours.distance[:, 0].argsort()[: self.shown].tolist()
        rows = [torch.cat([samples[i][None], self.search.images(neighbours.row[i])]) for i in order]
        title, note = "Samples nearest to training images", "distance in pixels"
        return {"neighbours": neighbours_figure(torch.cat(rows), neighbours.row.shape[1], title, note)}

    def protocol(self) -> dict[str, Any]:
        return {"most": self.most, "distance": "pixels, over small shifts", "mirrored": self.search.mirrors}


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


class Copies(Metric):
    """The share of samples that are copies of a real image in feature space.

    A sample is a copy if its features are at most as far from those of a real image as the nearest 1 % of real images
    are from each other, duplicates not counted: about 0.01 for new images. Only the real images that samples are
    compared with are searched (`real=`). Needs 100 of them.

    It detects copies whose pixels differ, by noise, a shift or other colours, as far as the extractor ignores these. It
    cannot detect copies that the extractor takes for other images, nor poor quality. An extractor that was trained on
    the real images places them nearer to each other than to new images, so compare the number with the baseline.

    Args:
        most: use at most this many samples, and real images for the comparison.
    """

    better = {"copied": "lower"}

    def __init__(self, most: PositiveInt = 2000) -> None:
        self.most = most

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        return self.resampler(real, fake)(torch.arange(len(fake)))

    def resampler(self, real: ImageSet, fake: ImageSet) -> Callable[[Tensor], dict[str, float]]:
        require_images(MIN_REAL, real, "copies")
        chosen = shuffled(len(real), self.most)
        others = nearest(real.features[chosen], real.features, 2).distance[:, 1]  # the first is the image itself
        others = others[others > 0]
        if not len(others):
            raise UserError("each real image has a duplicate, so there is no distance to compare with")
        samples = fake.features[shuffled(len(fake), self.most)]
        is_copy = nearest(samples, real.features).distance[:, 0] <= others.quantile(QUANTILE)
        return lambda rows: {"copied": float(is_copy[rows[rows < len(is_copy)]].float().mean())}

    def protocol(self) -> dict[str, Any]:
        return {"most": self.most}

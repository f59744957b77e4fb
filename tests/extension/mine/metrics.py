"""A metric: numbers that compare samples with real images."""

from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric


class Brightness(Metric):
    """The difference between the mean brightness of samples and of real images, in percent of the range."""

    better = {"brightness_gap": "lower"}  # the numbers, and which direction is better: "lower", "higher" or ""
    uses_extractor = False  # it compares pixels, not features

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        gap = fake.pixels.float().mean() - real.pixels.float().mean()
        return {"brightness_gap": 100 * abs(float(gap)) / 255}

"""The distance of CLIP's embeddings by maximum mean discrepancy (CMMD)."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn.functional import normalize

from oakleaf.config.types import PositiveFloat
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric, require_images
from oakleaf.metrics.neighbours import BLOCK


class EmbeddingMMD(Metric):
    """CMMD: the squared maximum mean discrepancy of embeddings of length 1, with a Gaussian kernel, times 1,000.

    It detects any difference between the distributions of the embeddings, without the assumption that they are
    Gaussian. It cannot detect copies of the training images, nor what the network that embeds ignores. Only with
    `extractor=clip` is it the published number; other extractors append their suffix to the name.

    Args:
        sigma: the width of the kernel.
        scale: the factor of the result.

    Reference: Jayasumana 2024, arXiv:2401.09603, section 4, with the estimator of its code, in which each image is also
    compared with itself.
    """

    better = {"cmmd": "lower"}

    def __init__(self, sigma: PositiveFloat = 10.0, scale: PositiveFloat = 1000.0) -> None:
        self.sigma, self.scale = sigma, scale

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        for images in (real, fake):
            require_images(10, images, "cmmd")
        return self.resampler(real, fake)(slice(None))  # type: ignore[arg-type]

    def resampler(self, real: ImageSet, fake: ImageSet) -> Callable[[Tensor], dict[str, float]]:
        x, y = (normalize(images.features.double(), dim=1) for images in (real, fake))
        within_real = self._mean_kernel(x, x)

        def numbers(rows: Tensor) -> dict[str, float]:
            distance = within_real + self._mean_kernel(y[rows], y[rows]) - 2 * self._mean_kernel(x, y[rows])
            return {"cmmd": self.scale * distance}

        return numbers

    def _mean_kernel(self, x: Tensor, y: Tensor) -> float:
        """The mean of exp(-|x - y|^2 / (2 sigma^2)) over all pairs of vectors [N, d] and [M, d] of length 1."""
        total = sum(float(((block @ y.T - 1) / self.sigma**2).exp().sum()) for block in x.split(BLOCK))
        return total / (len(x) * len(y))

    def protocol(self) -> dict[str, Any]:
        return {"sigma": self.sigma, "scale": self.scale}

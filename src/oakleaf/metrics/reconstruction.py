"""Pixel errors of translated images, for data with pairs of inputs and target images."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from oakleaf.config.types import PositiveInt
from oakleaf.data.inputs import Masked
from oakleaf.errors import UserError
from oakleaf.games import Batch
from oakleaf.image_grid import from_bytes
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric
from oakleaf.runtime.seeds import derive_seed

BATCH_SIZE = 64  # images that are translated at once
NO_TRANSLATOR = "needs a translator, and this generator takes no input images"


class ReconstructionError(Metric):
    """PSNR and pixel errors of translated test images.

    - psnr: peak signal-to-noise ratio in dB, the mean over images.
    - l1_percent, l2_percent: the mean absolute and the mean squared error, in percent of the largest possible one.

    If the inputs have a missing part (`data/input=masked`), only the errors in this part count. The baseline is that of
    the input itself, as far as it is an image; a missing part is filled with the mean colour of the rest. It is no
    upper bound: a good translation exceeds it.

    It detects differences from the target image, pixel by pixel. It cannot detect blur, which it rewards: the mean of
    all plausible images has the smallest expected squared error, and a plausible image other than the target a large
    one.

    Args:
        most: use at most this many test images.

    Reference: Pathak 2016, arXiv:1604.07379, table 1.
    """

    better = {"psnr": "higher", "l1_percent": "lower", "l2_percent": "lower"}
    uses_extractor = False
    uses_samples = False
    baseline_is = "the input itself, which a translation may exceed"

    def __init__(self, most: PositiveInt = 2000) -> None:
        self.most = most

    def prepare(self, evaluation: EvaluationData) -> None:
        data = evaluation.test
        if not evaluation.module.game.translates:
            raise UserError(NO_TRANSLATOR)
        if data is None:
            raise UserError("needs a test split, and these data have none; train with data.source.split=train")
        if not data.pairs:
            raise UserError("needs pairs: these inputs and images do not belong together")
        transform: Any = getattr(getattr(data, "transform", None), "input", None)
        self.masked = isinstance(transform, Masked)
        if self.masked:
            self.baseline_is = "the input, its missing part filled with the mean colour of the rest"
        errors, baseline_errors = [], []
        count = min(self.most, data.count)
        for batch, translated in translate_test_images(evaluation, count, BATCH_SIZE, "likeness"):
            image = batch["image"]
            counted = batch["input"][:, -1:] > 0 if self.masked else torch.ones_like(image[:, :1]).bool()
            errors.append(_errors(from_bytes(translated), image, counted))
            baseline_errors.append(_errors(self._input_as_image(batch["input"], image, counted), image, counted))
        self.errors, self.baseline_errors = torch.cat(errors), torch.cat(baseline_errors)

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        return _numbers(self.errors)

    def baseline(self, evaluation: EvaluationData) -> dict[str, float]:
        return _numbers(self.baseline_errors)

    def protocol(self) -> dict[str, Any]:
        return {"test": len(self.errors), "of": "the missing part" if self.masked else "all"}

    def _input_as_image(self, given: Tensor, image: Tensor, missing: Tensor) -> Tensor:
        """The input with the channels of the image, its missing part filled."""
        if self.masked:
            mean = (image * ~missing).sum((2, 3), keepdim=True) / (~missing).sum((2, 3), keepdim=True)
            return torch.where(missing, mean, image)
        return given.expand_as(image) if given.shape[1] in (1, image.shape[1]) else given.mean(1, True).expand_as(image)


def translate_test_images(
    evaluation: EvaluationData, count: int, batch_size: int, seed_key: str
) -> Iterator[tuple[Batch, Tensor]]:
    """Translate the inputs of the first test images, with random numbers that depend on the evaluation's seed.

    Args:
        evaluation: has a test split with inputs, and a translator.
        count: the number of test images.
        batch_size: images that are translated at once.
        seed_key: makes the random numbers differ from those of other metrics.

    Yields:
        A batch of test data, and the translated images [B, C, H, W] as stored.
    """
    data: Any = evaluation.test
    for rows in torch.arange(count).split(batch_size):
        batch = data.batch(rows)
        torch.manual_seed(derive_seed(evaluation.seed, seed_key, int(rows[0])))
        images = evaluation.module.sample({"input": batch["input"].to(evaluation.device)}, evaluation.ema)
        yield batch, data.stored(images)


def _errors(generated: Tensor, image: Tensor, counted: Tensor) -> Tensor:
    """Mean absolute and mean squared error of each image, [B, 2]; images in [-1, 1], counted pixels [B, 1, H, W]."""
    weight = counted.expand_as(image).float()
    total = weight.sum((1, 2, 3))
    error = generated - image
    return torch.stack([(error.abs() * weight).sum((1, 2, 3)) / total, (error**2 * weight).sum((1, 2, 3)) / total], 1)


def _numbers(errors: Tensor) -> dict[str, float]:
    absolute, squared = errors.double().T
    return {
        "psnr": float((10 * torch.log10(4 / squared.clamp(min=1e-10))).mean()),
        "l1_percent": float(100 * absolute.mean() / 2),
        "l2_percent": float(100 * squared.mean() / 4),
    }

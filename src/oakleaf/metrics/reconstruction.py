"""How near a translation comes to the image that is known."""

from typing import Any

import torch
from torch import Tensor

from oakleaf.config.types import PositiveInt
from oakleaf.data.inputs import Masked
from oakleaf.errors import UserError
from oakleaf.image_grid import from_bytes
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric
from oakleaf.runtime.seeds import derive_seed

AT_ONCE = 64
UNTRANSLATED = "needs a translator, and this generator is given no pictures"


class ReconstructionError(Metric):
    """Peak signal-to-noise ratio in dB, the mean over test images, and the mean error of a value in percent of the
    whole range, L1 and L2. Pathak 2016, arXiv:1604.07379, table 1. Where a part was missing, of that part alone.

    The real line: of the input itself, as far as it is an image; a missing part is filled by the mean colour of the
    rest.

    most: so many of the test images.
    """

    better = {"psnr": "higher", "l1_percent": "lower", "l2_percent": "lower"}
    uses_extractor = False
    of_samples = False

    def __init__(self, most: PositiveInt = 2000) -> None:
        self.most = most

    def prepare(self, evaluation: EvaluationData) -> None:
        data = evaluation.test
        if not evaluation.module.game.translates:
            raise UserError(UNTRANSLATED)
        if data is None:
            raise UserError("needs a test split, and these data have none; data.source.split=train, in training")
        if not data.pairs:
            raise UserError("needs pairs: these inputs and images have nothing to do with each other")
        made: Any = getattr(getattr(data, "transform", None), "input", None)
        self.masked = isinstance(made, Masked)
        drawn, plain = [], []
        for rows in torch.arange(min(self.most, len(data.rows["image"]))).split(AT_ONCE):
            batch = data.batch(rows)
            torch.manual_seed(derive_seed(evaluation.seed, "likeness", int(rows[0])))
            image = evaluation.module.sample({"input": batch["input"].to(evaluation.device)}, evaluation.ema)
            missing = batch["input"][:, -1:] > 0 if self.masked else torch.ones_like(batch["image"][:, :1]).bool()
            drawn.append(_errors(from_bytes(data.stored(image)), batch["image"], missing))
            plain.append(_errors(self._plain(batch["input"], batch["image"], missing), batch["image"], missing))
        self.drawn, self.plain = torch.cat(drawn), torch.cat(plain)

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        return _numbers(self.drawn)

    def baseline(self, evaluation: EvaluationData) -> dict[str, float]:
        return _numbers(self.plain)

    def protocol(self) -> dict[str, Any]:
        filled = "mean colour of the rest" if self.masked else "the input itself"
        return {"test": len(self.drawn), "of": "the missing part" if self.masked else "all", "calibration": filled}

    def _plain(self, given: Tensor, image: Tensor, missing: Tensor) -> Tensor:
        """The input as an image."""
        if self.masked:
            known = (image * ~missing).sum((2, 3), keepdim=True) / (~missing).sum((2, 3), keepdim=True)
            return torch.where(missing, known, image)
        return given.expand_as(image) if given.shape[1] in (1, image.shape[1]) else given.mean(1, True).expand_as(image)


def _errors(made: Tensor, image: Tensor, counted: Tensor) -> Tensor:
    """Mean absolute and mean squared error of each image's values, [B, 2]; images are in [-1, 1]."""
    weight = counted.expand_as(image).float()
    total = weight.sum((1, 2, 3))
    wrong = made - image
    return torch.stack([(wrong.abs() * weight).sum((1, 2, 3)) / total, (wrong**2 * weight).sum((1, 2, 3)) / total], 1)


def _numbers(errors: Tensor) -> dict[str, float]:
    absolute, squared = errors.double().T
    return {
        "psnr": float((10 * torch.log10(4 / squared.clamp(min=1e-10))).mean()),
        "l1_percent": float(100 * absolute.mean() / 2),
        "l2_percent": float(100 * squared.mean() / 4),
    }

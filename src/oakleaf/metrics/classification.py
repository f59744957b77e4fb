"""The accuracy of a discriminator that predicts classes; used by semi-supervised learning."""

from typing import Any

import torch
from torch import Tensor

from oakleaf.errors import UserError
from oakleaf.games import Generation
from oakleaf.gan import GAN
from oakleaf.image_grid import from_bytes
from oakleaf.metrics.conditional import LabelledTestMetric
from oakleaf.metrics.evaluation_data import BATCH_SIZE, EvaluationData
from oakleaf.metrics.image_set import ImageSet


class ClassificationError(LabelledTestMetric):
    """The number and the share of real test images that the discriminator assigns to a wrong class.

    The EMA weights of the discriminator are used if there are any (`optim.ema.of`). The metric uses no samples, so it
    does not depend on their quality, and has no real-data baseline.

    Reference: Salimans 2016, arXiv:1606.03498, section 5.
    """

    better = {"classification_errors": "lower", "classification_error": "lower"}
    has_baseline = False
    uses_samples = False

    def prepare(self, evaluation: EvaluationData) -> None:
        super().prepare(evaluation)
        module = evaluation.module
        self.uses_ema = evaluation.ema and "discriminator" in module.ema
        batches = [self._predict(module, pixels, evaluation.ema) for pixels in self.test.split(BATCH_SIZE)]
        self.errors = int((torch.cat(batches) != self.labels).sum())

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        return {"classification_errors": self.errors, "classification_error": self.errors / len(self.labels)}

    def protocol(self) -> dict[str, Any]:
        return {**super().protocol(), "discriminator_ema": self.uses_ema}

    @staticmethod
    def _predict(module: GAN, pixels: Tensor, ema: bool) -> Tensor:
        """The classes [B] that the discriminator predicts for stored images [B, C, H, W]."""
        with module.ema_scope(ema) as game:
            single_image = type(game).play is Generation.play  # the discriminators of other games take other inputs
            inputs = game.sample_inputs(len(pixels), module.device)
            critic: Any = game.conditioned_critic(inputs, game.discriminator) if single_image else None  # type: ignore[operator]
            classes = critic(from_bytes(pixels).to(module.device)).classes if critic else None
        if classes is None:
            raise UserError("needs a discriminator that predicts classes, as those of model=improved and acgan do")
        return classes.argmax(1).cpu()  # type: ignore[no-any-return]

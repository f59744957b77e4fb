"""How well a discriminator tells classes."""

from typing import Any

import torch

from oakleaf.errors import UserError
from oakleaf.games import Generation
from oakleaf.gan import GAN
from oakleaf.image_grid import from_bytes
from oakleaf.metrics.conditional import OnTest
from oakleaf.metrics.evaluation_data import AT_ONCE, EvaluationData
from oakleaf.metrics.image_set import ImageSet


class ClassificationError(OnTest):
    """Real test images whose class D takes for another one: how many, and their share. By the average of D's weights
    where there is one (optim.ema.of). Salimans 2016, arXiv:1606.03498, section 5.
    """

    better = {"classification_errors": "lower", "classification_error": "lower"}
    compares = False
    of_samples = False

    def prepare(self, evaluation: EvaluationData) -> None:
        super().prepare(evaluation)
        module = evaluation.module
        self.averaged = evaluation.ema and "discriminator" in module.ema
        said = torch.cat([self._said(module, pixels, evaluation.ema) for pixels in self.test.split(AT_ONCE)])
        self.wrong = int((said != self.labels).sum())

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        return {"classification_errors": self.wrong, "classification_error": self.wrong / len(self.labels)}

    def protocol(self) -> dict[str, Any]:
        return {**super().protocol(), "average_of_discriminator": self.averaged}

    @staticmethod
    def _said(module: GAN, pixels: torch.Tensor, ema: bool) -> torch.Tensor:
        with module.ema_scope(ema) as game:
            plain = type(game).play is Generation.play  # other games judge other things than images
            asked = game.sample_inputs(len(pixels), module.device)
            critic: Any = game.conditioned_critic(asked, game.discriminator) if plain else None  # type: ignore[operator]
            classes = critic(from_bytes(pixels).to(module.device)).classes if critic else None
        if classes is None:
            raise UserError("needs a discriminator that tells classes, as those of model=improved and acgan do")
        return classes.argmax(1).cpu()  # type: ignore[no-any-return]

"""What an encoder's features are worth."""

from typing import Any

import torch
from torch import Tensor

from oakleaf.errors import UserError
from oakleaf.image_grid import from_bytes
from oakleaf.metrics.conditional import UNLABELLED
from oakleaf.metrics.evaluation_data import AT_ONCE, EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric, labelled
from oakleaf.metrics.neighbours import flat, nearest


class EncoderOneNN(Metric):
    """Accuracy on real test images of the 1-NN classifier, Euclidean in the layer before the encoder's output, that has
    the real training images. Its real line is the same in raw pixels. Donahue 2016, arXiv:1605.09782, table 1.
    """

    better = {"encoder_one_nn": "higher"}
    uses_extractor = False
    of_samples = False

    def prepare(self, evaluation: EvaluationData) -> None:
        if not hasattr(getattr(evaluation.module.game, "encoder", None), "features"):
            raise UserError("needs a game with an encoder, and this one has none: model=bigan and model=ali have")
        training, test, self.split = evaluation.training_and_test()
        (known, self.known), (asked, self.asked) = (labelled(part, UNLABELLED) for part in (training, test))
        self.training, self.test = training.pixels[known], test.pixels[asked]
        self.module, self.ema = evaluation.module, evaluation.ema

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        return self._accuracy(self._features(self.test), self._features(self.training))

    def baseline(self, evaluation: EvaluationData) -> dict[str, float]:
        there = evaluation.device
        return self._accuracy(flat(self.test).to(there), flat(self.training).to(there))

    def _features(self, pixels: Tensor) -> Tensor:
        """E's last layer but one, [N, f]."""
        with self.module.ema_scope(self.ema) as game:
            encoder: Any = game.get_submodule("encoder")
            pieces = (from_bytes(piece).to(self.module.device) for piece in pixels.split(AT_ONCE))
            return torch.cat([flat(encoder.features(piece)) for piece in pieces])

    def _accuracy(self, these: Tensor, those: Tensor) -> dict[str, float]:
        said = self.known[nearest(these, those).row[:, 0].cpu()]
        return {"encoder_one_nn": float((said == self.asked).float().mean())}

    def protocol(self) -> dict[str, Any]:
        known = {"references": len(self.training), "test": len(self.test), "test_split": self.split}
        return {**known, "calibration": "the same in raw pixels"}

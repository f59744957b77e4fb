"""How useful the features of a BiGAN's or ALI's encoder are for classification."""

from typing import Any

import torch
from torch import Tensor

from oakleaf.errors import UserError
from oakleaf.image_grid import from_bytes
from oakleaf.metrics.conditional import NO_TEST_LABELS
from oakleaf.metrics.evaluation_data import BATCH_SIZE, EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric, labelled_rows
from oakleaf.metrics.neighbours import flat, nearest


class EncoderOneNN(Metric):
    """The accuracy on real test images of a 1-NN classifier in the encoder's features.

    The features are the layer before the encoder's output, by its EMA weights if there are any; distances are
    Euclidean; the classifier's training set is the real training images. The real-data baseline is the same accuracy in
    raw pixels. The metric uses no samples, so it does not depend on their quality.

    Reference: Donahue 2016, arXiv:1605.09782, table 1.
    """

    better = {"encoder_one_nn": "higher"}
    uses_extractor = False
    uses_samples = False
    baseline_is = "the same accuracy in raw pixels"

    def prepare(self, evaluation: EvaluationData) -> None:
        if not hasattr(getattr(evaluation.module.game, "encoder", None), "features"):
            raise UserError("needs a game with an encoder, and this one has none: model=bigan and model=ali have")
        training, test, self.split = evaluation.training_and_test()
        training_rows, self.training_labels = labelled_rows(training, NO_TEST_LABELS)
        test_rows, self.test_labels = labelled_rows(test, NO_TEST_LABELS)
        self.training, self.test = training.pixels[training_rows], test.pixels[test_rows]
        self.module, self.ema = evaluation.module, evaluation.ema

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        return self._accuracy(self._features(self.test), self._features(self.training))

    def baseline(self, evaluation: EvaluationData) -> dict[str, float]:
        device = evaluation.device
        return self._accuracy(flat(self.test).to(device), flat(self.training).to(device))

    def _features(self, pixels: Tensor) -> Tensor:
        """The layer before the encoder's output, [N, f]."""
        with self.module.ema_scope(self.ema) as game:
            encoder: Any = game.get_submodule("encoder")
            batches = (from_bytes(batch).to(self.module.device) for batch in pixels.split(BATCH_SIZE))
            return torch.cat([flat(encoder.features(batch)) for batch in batches])

    def _accuracy(self, test: Tensor, training: Tensor) -> dict[str, float]:
        predicted = self.training_labels[nearest(test, training).row[:, 0].cpu()]
        return {"encoder_one_nn": float((predicted == self.test_labels).float().mean())}

    def protocol(self) -> dict[str, Any]:
        return {"references": len(self.training), "test": len(self.test), "test_split": self.split}

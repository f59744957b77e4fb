"""Measures of generators that are told a label."""

from typing import Any

import torch

from oakleaf.errors import UserError
from oakleaf.metrics.classifier import Training, learn, reading
from oakleaf.metrics.classifier_targets import Labels
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric, labelled
from oakleaf.metrics.neighbours import nearest

UNTOLD = "needs samples of known labels, and this generator is told none"
UNLABELLED = "needs real test images with labels, and these have none"


class ConditionalAccuracy(Metric):
    """Share of samples that the extractor, which learned from real images, takes for what was asked for: the GAN-test
    of Shmelkov 2018, arXiv:1807.09499, section 3, by whatever classifier is at hand."""

    better = {"conditional_accuracy": "higher"}

    def prepare(self, evaluation: EvaluationData) -> None:
        self.classes = len(evaluation.data.classes)

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        rows, labels = labelled(fake, UNTOLD)
        if fake.extracted.logits is None or fake.extracted.logits.shape[1] != self.classes:
            raise UserError("conditional_accuracy needs an extractor that learned these classes: extractor=classifier")
        said = fake.extracted.logits[rows].argmax(1).cpu()
        return {"conditional_accuracy": float((said == labels).float().mean())}


class OnTest(Metric):
    """Needs real test images with labels."""

    uses_extractor = False

    def prepare(self, evaluation: EvaluationData) -> None:
        _, test, self.split = evaluation.validation_and_test()
        rows, self.labels = labelled(test, UNLABELLED)
        self.test, self.device, self.classes = test.pixels[rows], evaluation.device, len(evaluation.data.classes)

    def protocol(self) -> dict[str, Any]:
        return {"test": len(self.test), "test_split": self.split}


class GanTrainTest(OnTest):
    """GAN-train: accuracy on real test images of a classifier that learned from samples alone. GAN-test: accuracy on
    samples of one that learned from real images. Shmelkov 2018, arXiv:1807.09499, section 3.

    The first falls where samples lack quality or variety, the second where they lack quality, and is too good where
    they are copies.
    """

    better = {"gan_train": "higher", "gan_test": "higher"}

    def __init__(self, training: Training) -> None:
        self.training = training

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        return {"gan_train": self._taught(fake, self.test, self.labels), "gan_test": self._read(real, fake)}

    def _read(self, real: ImageSet, fake: ImageSet) -> float:
        rows, labels = labelled(fake, UNTOLD)
        return self._taught(real, fake.pixels[rows], labels)

    def _taught(self, teacher: ImageSet, pixels: torch.Tensor, labels: torch.Tensor) -> float:
        rows, taught = labelled(teacher, UNTOLD)
        network = learn(teacher.pixels[rows], Labels(taught, self.classes), self.training, self.device)
        said = reading(network, pixels, self.device).argmax(1).cpu()
        return float((said == labels).float().mean())

    def protocol(self) -> dict[str, Any]:
        return {**super().protocol(), "classifier_images": self.training.images}


class OneNN(OnTest):
    """Error on real test images of the 1-NN classifier whose training set are labelled samples, Euclidean in pixels.
    Radford 2015, arXiv:1511.06434, appendix A and table 3."""

    better = {"one_nn_error": "lower"}

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        rows, labels = labelled(fake, UNTOLD)
        found = nearest(self.test, fake.pixels[rows]).row[:, 0].cpu()
        return {"one_nn_error": float((labels[found] != self.labels).float().mean())}

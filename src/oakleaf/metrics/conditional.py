"""Metrics of generators that are conditioned on a label."""

from typing import Any

from torch import Tensor

from oakleaf.errors import UserError
from oakleaf.frozen.classifier import Training, predict, train_classifier
from oakleaf.frozen.provenance import Provenance
from oakleaf.frozen.tasks import Labels
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.independence import require_independent
from oakleaf.metrics.metric import Metric, labelled_rows
from oakleaf.metrics.neighbours import nearest

NO_SAMPLE_LABELS = "needs samples with labels, and this generator is not conditioned on labels"
NO_TEST_LABELS = "needs real test images with labels, and these have none"


class ConditionalAccuracy(Metric):
    """The share of samples whose label is the class that the extractor predicts.

    This is GAN-test with the extractor's classifier, which was trained on real images. It detects samples that do not
    show their class. It cannot detect missing variety: one good image of each class scores 1.

    Reference: Shmelkov 2018, arXiv:1807.09499, section 3.
    """

    better = {"conditional_accuracy": "higher"}

    def prepare(self, evaluation: EvaluationData) -> None:
        self.classes = len(evaluation.data.classes)

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        rows, labels = labelled_rows(fake, NO_SAMPLE_LABELS)
        if fake.extracted.logits is None or fake.extracted.logits.shape[1] != self.classes:
            raise UserError("conditional_accuracy needs an extractor trained on these classes: extractor=classifier")
        predicted = fake.extracted.logits[rows].argmax(1).cpu()
        return {"conditional_accuracy": float((predicted == labels).float().mean())}


class LabelledTestMetric(Metric):
    """Base class of metrics that need labelled real test images."""

    uses_extractor = False

    def prepare(self, evaluation: EvaluationData) -> None:
        _, test, self.split = evaluation.validation_and_test()
        rows, self.labels = labelled_rows(test, NO_TEST_LABELS)
        self.test, self.device, self.classes = test.pixels[rows], evaluation.device, len(evaluation.data.classes)

    def protocol(self) -> dict[str, Any]:
        return {"test": len(self.test), "test_split": self.split}


class GanTrainTest(LabelledTestMetric):
    """GAN-train and GAN-test: accuracies of classifiers trained on samples, and applied to them.

    - gan_train: the accuracy on real test images of a classifier that was trained on samples alone.
    - gan_test: the accuracy on samples of a classifier that was trained on real images.

    GAN-train falls if samples lack quality or variety, GAN-test if they lack quality. Neither can detect copies of the
    training images, which score as high as the training images.

    Args:
        training: the classifier's widths and the length of its training.

    Reference: Shmelkov 2018, arXiv:1807.09499, section 3.
    """

    better = {"gan_train": "higher", "gan_test": "higher"}
    has_errors = False

    def __init__(self, training: Training) -> None:
        self.training = training

    def prepare(self, evaluation: EvaluationData) -> None:
        super().prepare(evaluation)
        judge = Provenance("the classifier of labels", data=evaluation.data.hash, part="all", seed=0, task=Labels.kind)
        require_independent(judge, evaluation.frozen_networks, "train with another seed, model.frozen.<name>.seed=1")

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        rows, labels = labelled_rows(fake, NO_SAMPLE_LABELS)
        return {
            "gan_train": self._accuracy(fake, self.test, self.labels),
            "gan_test": self._accuracy(real, fake.pixels[rows], labels),
        }

    def _accuracy(self, training_set: ImageSet, pixels: Tensor, labels: Tensor) -> float:
        """Accuracy on these images of a classifier that is trained on the training set."""
        rows, training_labels = labelled_rows(training_set, NO_SAMPLE_LABELS)
        task = Labels(training_labels, self.classes)
        network = train_classifier(training_set.pixels[rows], task, self.training, self.device)
        predicted = predict(network, pixels, self.device).argmax(1).cpu()
        return float((predicted == labels).float().mean())

    def protocol(self) -> dict[str, Any]:
        return {**super().protocol(), "classifier_images": self.training.images}


class OneNN(LabelledTestMetric):
    """The error on real test images of a 1-NN classifier whose training set is the labelled samples.

    Distances are Euclidean, in pixels. It detects test images whose nearest sample has another label, as happens if
    samples lack variety or show the wrong class. It cannot detect copies, which score as the training images do.

    Reference: Radford 2015, arXiv:1511.06434, appendix A and table 3.
    """

    better = {"one_nn_error": "lower"}
    has_errors = False

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        rows, labels = labelled_rows(fake, NO_SAMPLE_LABELS)
        predicted = labels[nearest(self.test, fake.pixels[rows]).row[:, 0].cpu()]
        return {"one_nn_error": float((predicted != self.labels).float().mean())}

"""How well an InfoGAN's categorical code agrees with the labels; serves `experiment=infogan_mnist` only."""

from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from oakleaf.conditioning.priors import Codes
from oakleaf.errors import UserError
from oakleaf.image_grid import from_bytes
from oakleaf.metrics.conditional import NO_TEST_LABELS
from oakleaf.metrics.evaluation_data import BATCH_SIZE, EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric, labelled_rows


class CodeError(Metric):
    """The classification error on real test images of the first categorical code, `argmax Q(c_1 | x)`.

    Each value of the code is matched to one class by the assignment with the fewest errors (the Hungarian method, Kuhn
    1955); the labels are used for nothing else. The baseline is the chance level: the error of the same values in a
    random order, which is below 1 - 1/K because the matching chooses the best assignment. The metric uses no samples,
    so it does not depend on their quality.

    Reference: Chen 2016 (InfoGAN), arXiv:1606.03657, section 7.2.
    """

    better = {"code_error": "lower"}
    uses_extractor = False
    uses_samples = False
    baseline_is = "the chance level, that of a code that does not depend on the image"

    def prepare(self, evaluation: EvaluationData) -> None:
        prior = getattr(evaluation.module.game, "prior", None)
        if not isinstance(prior, Codes) or not prior.categories:
            raise UserError("code_error needs a categorical code, and this checkpoint's latents have none")
        _, test, self.split = evaluation.validation_and_test()
        rows, self.label = labelled_rows(test, NO_TEST_LABELS)
        batches = test.pixels[rows].split(BATCH_SIZE)
        with evaluation.module.ema_scope(evaluation.ema) as game:
            critic: nn.Module = game.discriminator  # type: ignore[assignment]
            codes = [critic(from_bytes(batch).to(evaluation.device)).code for batch in batches]
        self.predicted = prior.parts(torch.cat(codes))[0][0].argmax(1).cpu()

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        return {"code_error": assignment_error(self.predicted, self.label)}

    def baseline(self, evaluation: EvaluationData) -> dict[str, float]:
        return {"code_error": chance_level(self.predicted, self.label)}

    def protocol(self) -> dict[str, Any]:
        return {"test": len(self.label), "test_split": self.split, "matching": "Hungarian"}


def assignment_error(predicted: Tensor, label: Tensor) -> float:
    """Compute the error of a clustering, each value matched to a different class, so that the error is smallest.

    Args:
        predicted: values [N], from 0.
        label: classes [N], from 0.
    """
    size = int(max(predicted.max(), label.max())) + 1
    counts = torch.zeros(size, size, dtype=torch.long)
    counts.index_put_((predicted, label), torch.ones_like(label), accumulate=True)
    values, classes = linear_sum_assignment(counts.numpy(), maximize=True)
    return 1 - float(counts[values, classes].sum()) / len(label)


def chance_level(predicted: Tensor, label: Tensor, orders: int = 20) -> float:
    """Compute the mean assignment error of the same values in random orders, which do not depend on the label."""
    generator = torch.Generator().manual_seed(0)
    shuffles = [predicted[torch.randperm(len(predicted), generator=generator)] for _ in range(orders)]
    return sum(assignment_error(shuffled, label) for shuffled in shuffles) / orders

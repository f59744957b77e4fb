"""What a code without labels knows of the labels."""

from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from oakleaf.conditioning.priors import Codes
from oakleaf.errors import UserError
from oakleaf.image_grid import from_bytes
from oakleaf.metrics.conditional import UNLABELLED
from oakleaf.metrics.evaluation_data import AT_ONCE, EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric, labelled


class CodeError(Metric):
    """Share of real test images that are not of the class which stands for their most likely value of the first
    category, argmax Q(c_1 | x). Chen 2016 (InfoGAN), arXiv:1606.03657, section 7.2.

    Each value stands for one class, by the assignment that leaves the fewest errors (Hungarian method, Kuhn 1955), so
    labels decide 10! ways at most, and nothing else. Of networks, not of samples: there is no real line.
    """

    better = {"code_error": "lower"}
    uses_extractor = False
    of_samples = False
    compares = False

    def prepare(self, evaluation: EvaluationData) -> None:
        prior = getattr(evaluation.module.game, "prior", None)
        if not isinstance(prior, Codes) or not prior.categories:
            raise UserError("code_error needs a categorical code, and this checkpoint's latents have none")
        _, test, self.split = evaluation.validation_and_test()
        rows, self.label = labelled(test, UNLABELLED)
        with evaluation.module.ema_scope(evaluation.ema) as game:
            critic: nn.Module = game.discriminator  # type: ignore[assignment]
            codes = [critic(from_bytes(piece).to(evaluation.device)).code for piece in test.pixels[rows].split(AT_ONCE)]
        self.said = prior.parts(torch.cat(codes))[0][0].argmax(1).cpu()

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        return {"code_error": assignment_error(self.said, self.label)}

    def protocol(self) -> dict[str, Any]:
        return {"test": len(self.label), "test_split": self.split, "matching": "Hungarian"}


def assignment_error(said: Tensor, label: Tensor) -> float:
    """Share of rows whose class is not the one that stands for their value, each value standing for another class."""
    size = int(max(said.max(), label.max())) + 1
    together = torch.zeros(size, size, dtype=torch.long)
    together.index_put_((said, label), torch.ones_like(label), accumulate=True)
    value, stands_for = linear_sum_assignment(together.numpy(), maximize=True)
    return 1 - float(together[value, stands_for].sum()) / len(label)

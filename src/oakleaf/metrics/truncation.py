"""Precision and recall as functions of the truncation of the latents."""

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from oakleaf.config.types import PositiveFloat, PositiveInt
from oakleaf.errors import UserError
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Better, Metric
from oakleaf.metrics.precision_recall import Prdc

NEEDS = "needs a generator whose latents can be truncated: model.game.prior._target_=oakleaf.conditioning.priors.Normal"
TRUNCATIONS = (0.25, 0.5, 1.0, 2.0)


def _names(truncations: Sequence[float]) -> dict[str, Better]:
    return {f"{name}_at_{truncation:g}": "" for truncation in truncations for name in ("precision", "recall")}


class TruncationCurve(Metric):
    """Precision and recall of samples whose latents are truncated, for several truncations.

    Truncation exchanges variety for quality: precision rises and recall falls. The baseline is precision and recall of
    held-out real images; it does not depend on the truncation. The picture `truncation` shows the curve.

    It detects whether a generator has more quality to give at the cost of variety, which one truncation alone does not
    show. It cannot detect what precision and recall cannot (`prdc`).

    Args:
        truncations: each latent coordinate is drawn from the part of N(0, 1) within +-truncation.
        k: the neighbour that determines the radius.
        most: use at most this many images of each set.

    Reference: Brock 2018, arXiv:1809.11096, section 3.1; Kynkaanniemi 2019, arXiv:1904.06991, figure 4.
    """

    better = _names(TRUNCATIONS)
    uses_samples = False
    baseline_is = "precision and recall of held-out real images, for every truncation"

    def __init__(
        self,
        truncations: Sequence[PositiveFloat] = TRUNCATIONS,
        k: PositiveInt = 3,
        most: PositiveInt = 10_000,
    ) -> None:
        self.truncations, self.metric = list(truncations), Prdc(k, k, most)
        self.better = _names(self.truncations)

    def prepare(self, evaluation: EvaluationData) -> None:
        self.prior: Any = getattr(evaluation.module.game, "prior", None)
        if not hasattr(self.prior, "truncation"):
            raise UserError(NEEDS)
        self.evaluation = evaluation

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        """Compute the numbers for samples that are generated here; `fake` is not used."""
        self.numbers: dict[str, float] = {}
        for truncation in self.truncations:
            self.numbers |= self._named(self.metric(real, self._truncated(truncation)), truncation)
        return self.numbers

    def baseline(self, evaluation: EvaluationData) -> dict[str, float]:
        self.held_out = self.metric(evaluation.real, evaluation.held_out)
        return {name: value for t in self.truncations for name, value in self._named(self.held_out, t).items()}

    def protocol(self) -> dict[str, Any]:
        return {"samples": self.evaluation.fake_count, "truncation": self.truncations, **self.metric.protocol()}

    def pictures(self, real: ImageSet, fake: ImageSet) -> dict[str, Image.Image]:
        figure = Figure((5, 4.5), layout="constrained")
        axes = figure.add_subplot(xlabel="recall", ylabel="precision", title="Truncation of the latents")
        curve = [[self.numbers[f"{name}_at_{t:g}"] for t in self.truncations] for name in ("recall", "precision")]
        axes.plot(*curve, "o-", label="samples")
        for truncation, recall, precision in zip(self.truncations, *curve):
            axes.annotate(f"{truncation:g}", (recall, precision), textcoords="offset points", xytext=(6, 4))
        axes.plot(self.held_out["recall"], self.held_out["precision"], "k*", label="held-out real images")
        axes.legend()
        file = io.BytesIO()
        figure.savefig(file, format="png")
        return {"truncation": Image.open(file)}

    def _truncated(self, truncation: float) -> ImageSet:
        before, self.prior.truncation = self.prior.truncation, truncation
        try:
            samples = self.evaluation.draw()
        finally:
            self.prior.truncation = before
        return samples[: len(self.evaluation.held_out) or len(samples)]

    @staticmethod
    def _named(numbers: dict[str, float], truncation: float) -> dict[str, float]:
        return {f"{name}_at_{truncation:g}": numbers[name] for name in ("precision", "recall")}

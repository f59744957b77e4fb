"""The Jensen-Shannon divergence as the value of the game with an optimal discriminator."""

import math
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure

from oakleaf.config.types import PositiveFloat, PositiveInt
from oakleaf.losses.objectives import NonSaturating
from oakleaf.round import CriticOutput, Round
from oakleaf.runtime.seeds import derive_seed
from oakleaf.theory.critics import Critics, minimise
from oakleaf.theory.densities import Mixture, jensen_shannon
from oakleaf.theory.result import Check, LabResult, Row

EVALUATION_SAMPLES = 50_000  # stratified, for the value of the trained discriminators


@dataclass
class JensenShannon:
    """Compare the value that a trained discriminator reaches with max_D V(D, G) = -log 4 + 2 JSD(p || q).

    p and q are Gaussians of variance 1, and one discriminator is trained for each distance between them. The divergence
    is computed by quadrature.

    Args:
        seed: of all random numbers.
        distances: between the means, in standard deviations.
        steps: of the discriminators.
        batch: samples of each density in a step.
        lr: learning rate.

    Reference: Goodfellow 2014, arXiv:1406.2661, Theorem 1, eq. (5) and (6).
    """

    seed: int = 0
    distances: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
    steps: PositiveInt = 600
    batch: PositiveInt = 512
    lr: PositiveFloat = 5e-3

    def run(self) -> LabResult:
        """Train all discriminators together and compare."""
        torch.manual_seed(derive_seed(self.seed, "jensen_shannon"))
        objective, critics = NonSaturating(), Critics(len(self.distances), width=32)
        minimise(
            lambda: objective.discriminator(Round(*self._samples(self.batch), critics)),
            critics.parameters(),
            self.steps,
            self.lr,
        )
        with torch.no_grad():
            samples = self._samples(EVALUATION_SAMPLES)
            real, fake = (critics(x).score.unflatten(0, (critics.count, -1)) for x in samples)
        values = [-objective.discriminator(Round(r, f, CriticOutput)).item() for r, f in zip(real, fake)]
        exact = [-math.log(4) + 2 * jensen_shannon(Mixture(), Mixture(means=(d,))) for d in self.distances]
        table: list[Row] = [
            {
                "distance": d,
                "-log 4 + 2 JSD": e,
                "V(D, G)": v,
                "JSD": (e + math.log(4)) / 2,
                "relative error": abs(v / e - 1),
            }
            for d, e, v in zip(self.distances, exact, values)
        ]
        worst = max(abs(v / e - 1) for v, e in zip(values, exact))
        checks = [
            Check("largest relative error of V", worst, "<", 0.01),
            Check("V at equal densities, from -log 4", abs(values[0] - exact[0]), "<", 0.005),
        ]
        return LabResult(table, self._figure(exact, values), checks)

    def _samples(self, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw new real and fake samples, [distances * n, 1]."""
        fake = [Mixture().sample(n) + distance for distance in self.distances]
        return torch.cat([Mixture().sample(n) for _ in self.distances]), torch.cat(fake)

    def _figure(self, exact: list[float], values: list[float]) -> Figure:
        figure = Figure((7, 4), layout="constrained")
        axes = figure.subplots()
        fine = torch.linspace(0, max(self.distances), 61).tolist()
        curve = [-math.log(4) + 2 * jensen_shannon(Mixture(), Mixture(means=(d,))) for d in fine]
        axes.plot(fine, curve, "k", lw=3, alpha=0.35, label="-log 4 + 2 JSD, integrated")
        axes.plot(self.distances, values, "C3o", label="V(D, G), D trained")
        axes.axhline(-math.log(4), color="grey", lw=0.8, ls=":")
        axes.text(max(self.distances), -math.log(4) + 0.03, "-log 4", ha="right", color="grey")
        axes.set(xlabel="distance between two Gaussians, in sd", ylabel="value of the game")
        axes.set_title("G minimises the Jensen-Shannon divergence (Goodfellow 2014, eq. 6)")
        axes.legend(loc="upper left")
        return figure

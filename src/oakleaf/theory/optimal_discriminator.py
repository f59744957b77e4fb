"""The optimal discriminator for a fixed generator."""

from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor

from oakleaf.config.types import PositiveFloat, PositiveInt
from oakleaf.losses.objectives import NonSaturating
from oakleaf.round import Round
from oakleaf.runtime.seeds import derive_seed
from oakleaf.theory.critics import Critics, minimise
from oakleaf.theory.densities import Mixture, grid, integral
from oakleaf.theory.result import Check, LabResult, Row

P = Mixture((0.6, 0.4), (-1.5, 1.5), (0.5, 0.8))
Q = Mixture((1.0,), (0.5,), (1.5,))


@dataclass
class OptimalDiscriminator:
    """Compare a trained discriminator with the optimal one, D*(x) = p(x) / (p(x) + q(x)).

    A perceptron is trained on samples of two known densities p and q.

    Args:
        seed: of all random numbers.
        steps: of the discriminator.
        batch: samples of each density in a step.
        lr: learning rate.

    Reference: Goodfellow 2014, arXiv:1406.2661, Proposition 1, eq. (2).
    """

    seed: int = 0
    steps: PositiveInt = 800
    batch: PositiveInt = 1024
    lr: PositiveFloat = 1e-2

    def run(self) -> LabResult:
        """Train the discriminator and compare."""
        torch.manual_seed(derive_seed(self.seed, "optimal_discriminator"))
        objective, critic = NonSaturating(), Critics()
        minimise(
            lambda: objective.discriminator(Round(P.sample(self.batch), Q.sample(self.batch), critic)),
            critic.parameters(),
            self.steps,
            self.lr,
        )
        x = grid(2001, 6.0)
        p, q = P.log_density(x).exp(), Q.log_density(x).exp()
        with torch.no_grad():
            trained = objective.discriminator_probability(critic(x.float()[:, None]).score).double()
        error = (trained - p / (p + q)).abs()
        mean = integral(error * (p + q) / 2, x).item()
        table: list[Row] = [
            {
                "x": at,
                "p(x)": p[i].item(),
                "q(x)": q[i].item(),
                "p / (p + q)": (p / (p + q))[i].item(),
                "D(x)": trained[i].item(),
            }
            for at, i in ((at, int((at + 6) / 12 * 2000)) for at in (-3.0, -1.5, 0.0, 1.5, 3.0))
        ]
        return LabResult(table, _figure(x, p, q, trained), [Check("mean |D - p/(p+q)|", mean, "<", 0.01)])


def _figure(x: Tensor, p: Tensor, q: Tensor, trained: Tensor) -> Figure:
    figure = Figure((7, 4), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(x, p, alpha=0.25, label="p, real", lw=0)
    axes.fill_between(x, q, alpha=0.25, label="q, fake", lw=0)
    axes.plot(x, p / (p + q), "k", lw=3, alpha=0.35, label="p / (p + q)")
    axes.plot(x, trained, "C3--", lw=1.5, label="D, trained")
    axes.set(xlabel="x", xlim=(-5, 6), title="The optimal discriminator (Goodfellow 2014, eq. 2)")
    axes.legend(loc="upper right")
    return figure

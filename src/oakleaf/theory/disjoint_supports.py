"""The Jensen-Shannon divergence and the Wasserstein distance of two distributions without overlap."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from matplotlib.figure import Figure
from torch import Tensor

from oakleaf.config.types import PositiveFloat, PositiveInt
from oakleaf.losses.objectives import Objective, Saturating, Wasserstein
from oakleaf.losses.penalties import GradientPenalty
from oakleaf.round import CriticOutput, Round
from oakleaf.runtime.seeds import derive_seed
from oakleaf.theory.critics import Critics, minimise
from oakleaf.theory.result import Check, LabResult, Row


@dataclass
class DisjointSupports:
    """Measure divergence, distance and their derivatives for points on two parallel lines.

    Real points lie on the line (0, Z), fake ones on (theta, Z), Z ~ U[0, 1]. Then W = |theta|, but JSD = log 2 wherever
    theta is not 0. One critic is trained for each theta. dJSD/dtheta is half the gradient of eq. (1) of Goodfellow
    2014, arXiv:1406.2661, with respect to theta; dW/dtheta is that of the Wasserstein generator's loss.

    Args:
        seed: of all random numbers.
        thetas: distances between the lines.
        weight: of the gradient penalty (Gulrajani 2017, arXiv:1704.00028, eq. (3)). The slope that is optimal under the
            penalty is 1 + W / (2 weight), so with a finite weight the critic overestimates W by that fraction.
        steps: of the critics.
        batch: points on each line in a step.
        lr: learning rate.

    Reference: Arjovsky 2017, arXiv:1701.07875, Example 1; the gradient, Theorem 2.
    """

    seed: int = 0
    thetas: tuple[float, ...] = (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0)
    weight: PositiveFloat = 20.0
    steps: PositiveInt = 800
    batch: PositiveInt = 128
    lr: PositiveFloat = 1e-2

    def run(self) -> LabResult:
        """Train critics with both objectives and compare with the theory."""
        torch.manual_seed(derive_seed(self.seed, "disjoint_supports"))
        value, slope = self._train(Saturating(), None)
        jsd = [(v + math.log(4)) / 2 for v in value]
        distance, derivative = self._train(Wasserstein(), GradientPenalty("between", self.weight, 1.0))
        table: list[Row] = [
            {"theta": t, "JSD": j, "dJSD/dtheta": s / 2, "W": w, "dW/dtheta": d}
            for t, j, s, w, d in zip(self.thetas, jsd, slope, distance, derivative)
        ]
        return LabResult(table, self._figure(table), self._checks(table))

    def _train(self, objective: Objective, penalty: GradientPenalty | None) -> tuple[list[float], list[float]]:
        """Train the critics; return for each theta the value of the game, and the derivative of G's loss by theta."""
        critics = Critics(len(self.thetas), inputs=2, width=32)

        def loss() -> Tensor:
            round = Round(self._lines(torch.zeros(len(self.thetas))), self._lines(torch.tensor(self.thetas)), critics)
            return objective.discriminator(round) + (penalty(round) if penalty else 0)

        minimise(loss, critics.parameters(), self.steps, self.lr)
        theta = torch.tensor(self.thetas, requires_grad=True)
        split = partial(torch.unflatten, dim=0, sizes=(len(theta), -1))
        real, fake = (split(critics(self._lines(t)).score) for t in (torch.zeros(len(theta)), theta))
        rounds = [Round(r, f, CriticOutput) for r, f in zip(real, fake)]
        (slope,) = torch.autograd.grad(sum((objective.generator(round) for round in rounds), torch.zeros(())), theta)
        return [-objective.discriminator(round).item() for round in rounds], slope.tolist()

    def _lines(self, x: Tensor) -> Tensor:
        """Draw points on the vertical lines at each x, [len(x) * batch, 2]."""
        strata = torch.rand(len(x), self.batch).argsort(1)  # one point from each, in random order
        height = (strata + torch.rand(len(x), self.batch)) / self.batch
        return torch.stack([x[:, None].expand_as(height), height], -1).flatten(0, 1)

    def _checks(self, table: Sequence[Row]) -> list[Check]:
        disjoint = [{k: float(v) for k, v in row.items()} for row in table if row["theta"]]
        return [
            Check("largest |JSD - log 2|, theta not 0", max(abs(r["JSD"] - math.log(2)) for r in disjoint), "<", 0.01),
            Check("largest |dJSD/dtheta|, theta not 0", max(abs(r["dJSD/dtheta"]) for r in disjoint), "<", 0.05),
            Check("largest |W - |theta||", max(abs(r["W"] - abs(r["theta"])) for r in disjoint), "<", 0.05),
            Check(
                "largest |dW/dtheta - sign(theta)|, theta not 0",
                max(abs(r["dW/dtheta"] - math.copysign(1, r["theta"])) for r in disjoint),
                "<",
                0.1,
            ),
        ]

    def _figure(self, table: Sequence[Row]) -> Figure:
        figure = Figure((9, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        for axes, columns in ((left, ("JSD", "W")), (right, ("dJSD/dtheta", "dW/dtheta"))):
            for column, marker in zip(columns, ("C0s", "C3o")):
                axes.plot(self.thetas, [row[column] for row in table], marker, label=column.replace("theta", "θ"))
            axes.set(xlabel="θ, the distance between the lines", xticks=[-1, -0.5, 0, 0.5, 1])
            axes.legend()
        left.axhline(math.log(2), color="C0", lw=0.8, ls=":")
        left.plot([-1, 0, 1], [1, 0, 1], "C3:", lw=0.8)
        right.axhline(0, color="C0", lw=0.8, ls=":")
        right.plot([-1, 0, 0, 1], [-1, -1, 1, 1], "C3:", lw=0.8)
        left.set_title("what a trained critic measures (dotted: theory)")
        right.set_title("what the generator learns from it")
        return figure

"""Two distributions that do not overlap."""

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
from oakleaf.theory.critics import Critics, descend
from oakleaf.theory.finding import Check, Finding, Row


@dataclass
class DisjointSupports:
    """Real points lie on the line (0, Z), fake ones on (theta, Z), Z ~ U[0, 1]. Then W = |theta|, but JSD = log 2
    wherever theta is not 0. Arjovsky 2017, arXiv:1701.07875, Example 1; the gradient, Theorem 2.

    One critic for each theta. dJSD/dtheta is half the gradient of eq. (1) of Goodfellow 2014, arXiv:1406.2661;
    dW/dtheta is that of the Wasserstein generator. weight: of the gradient penalty (Gulrajani 2017, arXiv:1704.00028,
    eq. (3)); its optimal slope is 1 + W / (2 weight), so a finite one lets the critic overshoot by that share.
    """

    seed: int = 0
    thetas: tuple[float, ...] = (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0)
    weight: PositiveFloat = 20.0
    steps: PositiveInt = 800
    batch: PositiveInt = 128
    lr: PositiveFloat = 1e-2

    def run(self) -> Finding:
        torch.manual_seed(derive_seed(self.seed, "disjoint_supports"))
        value, slope = self._played(Saturating(), None)
        jsd = [(v + math.log(4)) / 2 for v in value]
        distance, pull = self._played(Wasserstein(), GradientPenalty("between", self.weight, 1.0))
        table: list[Row] = [
            {"theta": t, "JSD": j, "dJSD/dtheta": s / 2, "W": w, "dW/dtheta": p}
            for t, j, s, w, p in zip(self.thetas, jsd, slope, distance, pull)
        ]
        return Finding(table, self._figure(table), self._checks(table))

    def _played(self, objective: Objective, penalty: GradientPenalty | None) -> tuple[list[float], list[float]]:
        """For each theta what a trained critic's value is, and its derivative with respect to theta."""
        critics = Critics(len(self.thetas), inputs=2, width=32)

        def loss() -> Tensor:
            round = Round(self._lines(torch.zeros(len(self.thetas))), self._lines(torch.tensor(self.thetas)), critics)
            return objective.discriminator(round) + (penalty(round) if penalty else 0)

        descend(loss, critics.parameters(), self.steps, self.lr)
        theta = torch.tensor(self.thetas, requires_grad=True)
        split = partial(torch.unflatten, dim=0, sizes=(len(theta), -1))
        real, fake = (split(critics(self._lines(t)).score) for t in (torch.zeros(len(theta)), theta))
        rounds = [Round(r, f, CriticOutput) for r, f in zip(real, fake)]
        (slope,) = torch.autograd.grad(sum((objective.generator(round) for round in rounds), torch.zeros(())), theta)
        return [-objective.discriminator(round).item() for round in rounds], slope.tolist()

    def _lines(self, at: Tensor) -> Tensor:
        """Points on the vertical line at each place, [len(at) * batch, 2]."""
        strata = torch.rand(len(at), self.batch).argsort(1)  # one point from each, in random order
        height = (strata + torch.rand(len(at), self.batch)) / self.batch
        return torch.stack([at[:, None].expand_as(height), height], -1).flatten(0, 1)

    def _checks(self, table: Sequence[Row]) -> list[Check]:
        apart = [{k: float(v) for k, v in row.items()} for row in table if row["theta"]]
        return [
            Check("largest |JSD - log 2|, theta not 0", max(abs(r["JSD"] - math.log(2)) for r in apart), "<", 0.01),
            Check("largest |dJSD/dtheta|, theta not 0", max(abs(r["dJSD/dtheta"]) for r in apart), "<", 0.05),
            Check("largest |W - |theta||", max(abs(r["W"] - abs(r["theta"])) for r in apart), "<", 0.05),
            Check(
                "largest |dW/dtheta - sign(theta)|, theta not 0",
                max(abs(r["dW/dtheta"] - math.copysign(1, r["theta"])) for r in apart),
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

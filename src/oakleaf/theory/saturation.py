"""The gradients of two generator losses while the discriminator improves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from oakleaf.config.types import PositiveFloat, PositiveInt
from oakleaf.losses.objectives import NonSaturating, Objective, Saturating
from oakleaf.round import Round
from oakleaf.runtime.seeds import derive_seed
from oakleaf.theory.critics import Critics
from oakleaf.theory.result import Check, LabResult, Row


@dataclass
class Saturation:
    """Measure the generator's gradient for log(1 - D(G(z))) and for -log D(G(z)) while D is trained.

    The generator stays as it was initialised. Early in training D rejects its samples with high confidence; then
    log(1 - D(G(z))) saturates, while log D(G(z)) still gives strong gradients. As D approaches its optimum, the
    gradient of the first loss vanishes.

    Args:
        seed: of all random numbers.
        measured_steps: after so many steps of D the norms of both gradients, with respect to G's weights, are measured.
        batch: real and fake points in a step; 16 times as many fake ones in a measurement.
        lr: learning rate of D.

    Reference: Goodfellow 2014, arXiv:1406.2661, section 3; Arjovsky & Bottou 2017, arXiv:1701.04862, Theorem 2.4.
    """

    seed: int = 0
    measured_steps: tuple[int, ...] = (1, 5, 10, 20, 40, 80, 160, 320, 640, 1280)
    batch: PositiveInt = 256
    lr: PositiveFloat = 3e-3

    def run(self) -> LabResult:
        """Train the discriminator and measure."""
        torch.manual_seed(derive_seed(self.seed, "saturation"))
        generator = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 2))
        critic = Critics(inputs=2)
        optimizer = torch.optim.Adam(critic.parameters(), lr=self.lr, fused=True)
        table: list[Row] = []
        for step in range(1, max(self.measured_steps) + 1):
            round = Round(_ring(self.batch), generator(torch.randn(self.batch, 2)).detach(), critic)
            optimizer.zero_grad()
            NonSaturating().discriminator(round).backward()
            optimizer.step()
            if step in self.measured_steps:
                table.append({"D's steps": float(step), **self._measure(generator, critic)})
        return LabResult(table, _figure(table), _checks(table))

    def _measure(self, generator: nn.Module, critic: Critics) -> Row:
        """Compute D(G(z)) and the gradient norms of both losses, on the same samples."""
        round = Round(_ring(self.batch), generator(torch.randn(16 * self.batch, 2)), critic)
        return {
            "D(G(z))": NonSaturating().discriminator_probability(round.on_fake.score).mean().item(),
            "saturating": _gradient_norm(Saturating(), round, generator),
            "non-saturating": _gradient_norm(NonSaturating(), round, generator),
        }


def _gradient_norm(objective: Objective, round: Round, generator: nn.Module) -> float:
    gradients = torch.autograd.grad(objective.generator(round), list(generator.parameters()), retain_graph=True)
    return torch.nn.utils.get_total_norm(gradients).item()


def _ring(n: int) -> Tensor:
    """Draw from eight Gaussians of sd 0.05 on a circle of radius 3, [n, 2]; samples of a new generator lie inside."""
    angle = torch.randint(8, (n,)) * (math.pi / 4)
    return 3 * torch.stack([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(n, 2)


def _checks(table: Sequence[Row]) -> list[Check]:
    """Compare last and first gradients, and check that the saturating one follows D(G(z)), as the theorem's bound."""
    columns = _columns(table, "saturating", "non-saturating", "D(G(z))")
    saturating, non_saturating, probability = (torch.tensor(column) for column in columns)
    correlation = torch.stack([saturating.log(), probability.log()]).corrcoef()[0, 1].item()
    return [
        Check("saturating gradient, last / first", (saturating[-1] / saturating[0]).item(), "<", 0.05),
        Check("non-saturating gradient, last / first", (non_saturating[-1] / non_saturating[0]).item(), ">", 1.0),
        Check("correlation of log saturating gradient and log D(G(z))", correlation, ">", 0.9),
    ]


def _figure(table: Sequence[Row]) -> Figure:
    figure = Figure((7, 4), layout="constrained")
    axes = figure.subplots()
    styles = {"non-saturating": "C0o-", "saturating": "C3s-", "D(G(z))": "k:"}
    for column, style in styles.items():
        axes.loglog(*_columns(table, "D's steps", column), style, label=column)
    axes.set(xlabel="D's steps against the same generator", ylabel="norm of G's gradient (dotted: D(G(z)))")
    axes.set_title("log(1 - D) saturates, -log D does not")
    axes.legend(loc="lower left")
    return figure


def _columns(table: Sequence[Row], *names: str) -> list[list[float]]:
    return [[float(row[name]) for row in table] for name in names]

"""Two losses of the generator while the discriminator gets better."""

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
from oakleaf.theory.finding import Check, Finding, Row


@dataclass
class Saturation:
    """Early in learning D rejects samples with high confidence and log(1 - D(G(z))) saturates, while log D(G(z)) still
    gives strong gradients. Goodfellow 2014, arXiv:1406.2661, section 3. As D nears its optimum the first one's
    gradient vanishes: Arjovsky & Bottou 2017, arXiv:1701.04862, Theorem 2.4.

    A generator as it was initialised is kept; D is trained against it, and at the given numbers of steps the norm of
    both gradients with respect to G's weights is taken.
    """

    seed: int = 0
    looks: tuple[int, ...] = (1, 5, 10, 20, 40, 80, 160, 320, 640, 1280)
    batch: PositiveInt = 256
    lr: PositiveFloat = 3e-3

    def run(self) -> Finding:
        torch.manual_seed(derive_seed(self.seed, "saturation"))
        generator = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 2))
        critic = Critics(inputs=2)
        optimizer = torch.optim.Adam(critic.parameters(), lr=self.lr, fused=True)
        table: list[Row] = []
        for step in range(1, max(self.looks) + 1):
            round = Round(_ring(self.batch), generator(torch.randn(self.batch, 2)).detach(), critic)
            optimizer.zero_grad()
            NonSaturating().discriminator(round).backward()
            optimizer.step()
            if step in self.looks:
                table.append({"D's steps": float(step), **self._look(generator, critic)})
        return Finding(table, _figure(table), _checks(table))

    def _look(self, generator: nn.Module, critic: Critics) -> Row:
        """D(G(z)) and the norm of the gradient of either loss, on the same samples."""
        round = Round(_ring(self.batch), generator(torch.randn(16 * self.batch, 2)), critic)
        discriminator_probability = NonSaturating().discriminator_probability(round.on_fake.score)
        return {
            "D(G(z))": discriminator_probability.mean().item(),
            "saturating": _norm(Saturating(), round, generator),
            "non-saturating": _norm(NonSaturating(), round, generator),
        }


def _norm(objective: Objective, round: Round, generator: nn.Module) -> float:
    gradients = torch.autograd.grad(objective.generator(round), list(generator.parameters()), retain_graph=True)
    return torch.nn.utils.get_total_norm(gradients).item()


def _ring(n: int) -> Tensor:
    """Eight Gaussians of sd 0.05 on a circle of radius 3, [n, 2]; a new generator's samples lie inside."""
    angle = torch.randint(8, (n,)) * (math.pi / 4)
    return 3 * torch.stack([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(n, 2)


def _checks(table: Sequence[Row]) -> list[Check]:
    """Last against first; and whether the saturating gradient goes with D's belief, as the theorem's bound does."""
    saturating, usual, discriminator_probability = (
        torch.tensor(c) for c in _columns(table, "saturating", "non-saturating", "D(G(z))")
    )
    together = torch.stack([saturating.log(), discriminator_probability.log()]).corrcoef()[0, 1].item()
    return [
        Check("saturating gradient, last / first", (saturating[-1] / saturating[0]).item(), "<", 0.05),
        Check("non-saturating gradient, last / first", (usual[-1] / usual[0]).item(), ">", 1.0),
        Check("correlation of log saturating gradient and log D(G(z))", together, ">", 0.9),
    ]


def _figure(table: Sequence[Row]) -> Figure:
    figure = Figure((7, 4), layout="constrained")
    axes = figure.subplots()
    styles = {"non-saturating": "C0o-", "saturating": "C3s-", "D(G(z))": "k:"}
    for column, style in styles.items():
        axes.loglog(*_columns(table, "D's steps", column), style, label=column)
    axes.set(xlabel="D's steps against the same generator", ylabel="norm of G's gradient (dotted: D's belief)")
    axes.set_title("log(1 - D) saturates, -log D does not")
    axes.legend(loc="lower left")
    return figure


def _columns(table: Sequence[Row], *names: str) -> list[list[float]]:
    return [[float(row[name]) for row in table] for name in names]

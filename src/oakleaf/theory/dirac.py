"""The smallest GAN: one number against one number."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from oakleaf.conditioning.priors import Normal
from oakleaf.config.types import NonNegativeFloat, PositiveFloat, PositiveInt
from oakleaf.games import Generation
from oakleaf.losses.loss import Loss
from oakleaf.round import CriticOutput
from oakleaf.runtime.seeds import derive_seed
from oakleaf.theory.dirac_losses import circling, converging
from oakleaf.theory.finding import Check, Finding, Row

ARRIVES, STAYS = 0.05, 0.1  # of the distance at the start


class Point(nn.Module):
    """The generator: all mass at theta."""

    def __init__(self, theta: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta))

    def forward(self, z: Tensor) -> Tensor:
        """z [B, 1] -> [B, 1]"""
        return self.theta.expand(len(z), 1)


class Slope(nn.Module):
    """The discriminator: a line through the origin, psi * x."""

    def __init__(self, psi: float) -> None:
        super().__init__()
        self.psi = nn.Parameter(torch.tensor(psi))

    def forward(self, x: Tensor) -> CriticOutput:
        """x [B, 1] -> score [B]"""
        return CriticOutput((self.psi * x).squeeze(1))


@dataclass
class Dirac:
    """The Dirac-GAN of Mescheder 2018, arXiv:1801.04406, Definition 2.1: all real mass at 0, all fake mass at theta,
    D(x) = psi x. Its only equilibrium is (0, 0).

    Players step alternately by plain gradient descent, the discriminator first, as the framework does. The
    unregularised game circles (section 2), and so do WGAN, clipped or not, and WGAN-GP; instance noise, R1 and R2
    converge linearly (section 3). The non-saturating game has the same imaginary eigenvalues, so no linear rate; it
    creeps inwards with 1 / r^2 = 1 / r0^2 + t / 8, the average over a turn of its own d(r^2)/dt = -2 theta psi
    tanh(theta psi / 2), for small r.

    start: of both theta and psi. lr: of both players. gamma: R1's and R2's. noise: instance noise's sd.
    """

    seed: int = 0
    steps: PositiveInt = 1000
    lr: PositiveFloat = 0.1
    start: PositiveFloat = 1.0
    gamma: NonNegativeFloat = 0.4
    noise: NonNegativeFloat = 0.8
    batch: PositiveInt = 2048

    def run(self) -> Finding:
        torch.manual_seed(derive_seed(self.seed, "dirac"))
        around = {name: self._play(loss) for name, loss in circling().items()}
        inwards = {name: self._play(loss) for name, loss in converging(self.gamma, self.noise).items()}
        table: list[Row] = [
            {"loss": name, "distance at the end": _last(path), "end / start": _last(path) / path[0].norm().item()}
            for name, path in (around | inwards).items()
        ]
        start = math.sqrt(2) * self.start
        checks = [Check(f"{name}: end / start", _last(path) / start, ">", STAYS) for name, path in around.items()]
        checks += [Check(f"{name}: end / start", _last(path) / start, "<", ARRIVES) for name, path in inwards.items()]
        checks += [self._creeping(around["non-saturating"]), self._rate(inwards["R1"])]
        return Finding(table, _figure(around, inwards), checks)

    def _play(self, loss: Loss) -> Tensor:
        """The trajectory of (theta, psi), [steps + 1, 2]."""
        point, slope = Point(self.start), Slope(self.start)
        game = Generation(point, slope, Normal(1), loss)
        players = {"discriminator": slope.psi, "generator": point.theta}
        path = torch.empty(self.steps + 1, 2)
        path[0] = self.start
        for step in range(1, self.steps + 1):
            for player, weight in players.items():
                paid, _ = game.player_losses(player, {"image": torch.zeros(self.batch, 1)}, step, 0)
                (gradient,) = torch.autograd.grad(sum(paid.values(), torch.zeros(())), weight)
                weight.data.sub_(self.lr * gradient)
                game.constrain(player)
            path[step] = torch.stack([point.theta.detach(), slope.psi.detach()])
        return path

    def _creeping(self, path: Tensor) -> Check:
        predicted = (1 / path[0].square().sum().item() + self.lr * self.steps / 8) ** -0.5
        return Check("non-saturating: |distance / predicted - 1|", abs(_last(path) / predicted - 1), "<", 0.1)

    def _rate(self, path: Tensor) -> Check:
        """The slope of log r over time, against the eigenvalues' real part, -gamma / 2 (section 3, gamma < 1)."""
        time = self.lr * torch.arange(len(path)) - self.lr * (len(path) - 1) / 2
        slope = ((time * path.norm(dim=1).log()).sum() / time.square().sum()).item()
        return Check("R1: |rate - gamma / 2|", abs(slope + self.gamma / 2), "<", 0.1 * self.gamma / 2)


def _last(path: Tensor) -> float:
    """The mean distance to the equilibrium over the last tenth."""
    return path[-(len(path) // 10) :].norm(dim=1).mean().item()


def _figure(around: Mapping[str, Tensor], inwards: Mapping[str, Tensor]) -> Figure:
    figure = Figure((11, 8.4), layout="constrained")
    figure.suptitle("Dirac-GAN: (θ, ψ) from o to x; the equilibrium is the centre. Red circles, blue arrives.")
    for axes, (name, path) in zip(figure.subplots(3, 4).flat, {**around, **inwards}.items()):
        axes.plot(*path.T, lw=0.7, color="C3" if name in around else "C0")
        axes.plot(*path[0], "ko", ms=4)
        axes.plot(*path[-1], "kx", ms=7, mew=2)
        axes.axhline(0, color="grey", lw=0.5)
        axes.axvline(0, color="grey", lw=0.5)
        axes.set(title=name, xlim=(-2, 2), ylim=(-2, 2), aspect="equal")
    return figure

"""The Dirac-GAN: generator and discriminator have one parameter each."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from oakleaf.augment import Augmentation
from oakleaf.augment.noise import Noise
from oakleaf.conditioning.priors import Normal
from oakleaf.config.types import NonNegativeFloat, PositiveFloat, PositiveInt
from oakleaf.games import Generation
from oakleaf.losses.loss import Loss
from oakleaf.losses.objectives import NonSaturating
from oakleaf.round import CriticOutput
from oakleaf.runtime.seeds import derive_seed
from oakleaf.theory.dirac_losses import convergent_losses, non_convergent_losses
from oakleaf.theory.result import Check, LabResult, Row

CONVERGED, NOT_CONVERGED = 0.05, 0.1  # final distance below, or above, this fraction of the initial distance


class Point(nn.Module):
    """The generator, which maps every latent to the point theta."""

    def __init__(self, theta: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta))

    def forward(self, z: Tensor) -> Tensor:
        """Map latents z [B, 1] to points [B, 1]."""
        return self.theta.expand(len(z), 1)


class Slope(nn.Module):
    """The discriminator, the linear function psi * x."""

    def __init__(self, psi: float) -> None:
        super().__init__()
        self.psi = nn.Parameter(torch.tensor(psi))

    def forward(self, x: Tensor) -> CriticOutput:
        """Compute the scores [B] of points x [B, 1]."""
        return CriticOutput((self.psi * x).squeeze(1))


@dataclass
class Dirac:
    """Compare the convergence of all losses on the Dirac-GAN.

    All real mass is at 0, all fake mass at theta, and D(x) = psi x. The only equilibrium is (0, 0). The players take
    alternating steps of plain gradient descent, the discriminator first, as in the framework.

    The game without regularisation circles around the equilibrium (section 2), and so do WGAN, clipped or not, and
    WGAN-GP; instance noise, R1 and R2 converge linearly (section 3). The non-saturating game has the same imaginary
    eigenvalues, so it has no linear rate, but it approaches the equilibrium slowly, with 1 / r^2 = 1 / r0^2 + t / 8 for
    small r: this is the average over one revolution of its own d(r^2)/dt = -2 theta psi tanh(theta psi / 2).

    Args:
        seed: of the instance noise.
        steps: of each player.
        lr: learning rate of both players.
        start: initial value of theta and of psi.
        gamma: of R1 and R2.
        noise: standard deviation of the instance noise.
        batch: samples in a step, which matter for the instance noise only.

    Reference: Mescheder 2018, arXiv:1801.04406, Definition 2.1, sections 2 and 3.
    """

    seed: int = 0
    steps: PositiveInt = 1000
    lr: PositiveFloat = 0.1
    start: PositiveFloat = 1.0
    gamma: NonNegativeFloat = 0.4
    noise: NonNegativeFloat = 0.8
    batch: PositiveInt = 2048

    def run(self) -> LabResult:
        """Compute the trajectory of every loss, and check where it ends."""
        torch.manual_seed(derive_seed(self.seed, "dirac"))
        circling = {name: self._trajectory(loss) for name, loss in non_convergent_losses().items()}
        losses = convergent_losses(self.gamma)
        converging = {"instance noise": self._trajectory(Loss("noise", NonSaturating()), Noise(self.noise))}
        converging |= {name: self._trajectory(loss) for name, loss in losses.items()}
        table: list[Row] = [
            {
                "loss": name,
                "distance at the end": _final_distance(path),
                "end / start": _final_distance(path) / path[0].norm().item(),
            }
            for name, path in (circling | converging).items()
        ]
        start = math.sqrt(2) * self.start
        ends = {name: _final_distance(path) / start for name, path in (circling | converging).items()}
        checks = [Check(f"{name}: end / start", ends[name], ">", NOT_CONVERGED) for name in circling]
        checks += [Check(f"{name}: end / start", ends[name], "<", CONVERGED) for name in converging]
        checks += [self._check_slow_approach(circling["non-saturating"]), self._check_linear_rate(converging["R1"])]
        return LabResult(table, _figure(circling, converging), checks)

    def _trajectory(self, loss: Loss, augment: Augmentation | None = None) -> Tensor:
        """Play the game and return (theta, psi) after each step, [steps + 1, 2]."""
        point, slope = Point(self.start), Slope(self.start)
        game = Generation(point, slope, Normal(1), loss)
        game.attach(augment=augment)
        players = {"discriminator": slope.psi, "generator": point.theta}
        path = torch.empty(self.steps + 1, 2)
        path[0] = self.start
        for step in range(1, self.steps + 1):
            for player, weight in players.items():
                losses, _ = game.player_losses(player, {"image": torch.zeros(self.batch, 1)}, step)
                (gradient,) = torch.autograd.grad(sum(losses.values(), torch.zeros(())), weight)
                weight.data.sub_(self.lr * gradient)
                game.constrain(player)
            path[step] = torch.stack([point.theta.detach(), slope.psi.detach()])
        return path

    def _check_slow_approach(self, path: Tensor) -> Check:
        predicted = (1 / path[0].square().sum().item() + self.lr * self.steps / 8) ** -0.5
        return Check("non-saturating: |distance / predicted - 1|", abs(_final_distance(path) / predicted - 1), "<", 0.1)

    def _check_linear_rate(self, path: Tensor) -> Check:
        """Compare the slope of log r over time with the real part of the eigenvalues, -gamma / 2 for gamma < 1."""
        time = self.lr * torch.arange(len(path)) - self.lr * (len(path) - 1) / 2
        slope = ((time * path.norm(dim=1).log()).sum() / time.square().sum()).item()
        return Check("R1: |rate - gamma / 2|", abs(slope + self.gamma / 2), "<", 0.1 * self.gamma / 2)


def _final_distance(path: Tensor) -> float:
    """Return the mean distance to the equilibrium over the last tenth of a trajectory."""
    return path[-(len(path) // 10) :].norm(dim=1).mean().item()


def _figure(circling: Mapping[str, Tensor], converging: Mapping[str, Tensor]) -> Figure:
    figure = Figure((11, 8.4), layout="constrained")
    figure.suptitle("Dirac-GAN: (θ, ψ) from o to x; the equilibrium is the centre. Red does not converge, blue does.")
    for axes, (name, path) in zip(figure.subplots(3, 4).flat, {**circling, **converging}.items()):
        axes.plot(*path.T, lw=0.7, color="C3" if name in circling else "C0")
        axes.plot(*path[0], "ko", ms=4)
        axes.plot(*path[-1], "kx", ms=7, mew=2)
        axes.axhline(0, color="grey", lw=0.5)
        axes.axvline(0, color="grey", lw=0.5)
        axes.set(title=name, xlim=(-2, 2), ylim=(-2, 2), aspect="equal")
    return figure

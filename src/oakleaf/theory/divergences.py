"""The Gaussian that each f-divergence prefers, found by the f-GAN."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from oakleaf.config.types import PositiveFloat, PositiveInt
from oakleaf.losses import divergences
from oakleaf.losses.divergences import Divergence, FDivergence
from oakleaf.round import CriticOutput, Round
from oakleaf.runtime.seeds import derive_seed
from oakleaf.theory.critics import Critics
from oakleaf.theory.densities import Mixture, grid
from oakleaf.theory.fits import nearest
from oakleaf.theory.result import Check, LabResult, Row

P = Mixture((0.7, 0.3), (-0.6, 1.2), (0.9, 0.9))
KINDS: tuple[type[Divergence], ...] = (
    divergences.KullbackLeibler,
    divergences.ReverseKullbackLeibler,
    divergences.Pearson,
    divergences.Neyman,
    divergences.SquaredHellinger,
    divergences.Jeffreys,
    divergences.JensenShannon,
    divergences.GAN,
)


class Gaussians(nn.Module):
    """Generators z -> mu + sigma z, one for each game.

    Args:
        count: number of generators.
        mu: initial mean of each.
        sigma: initial standard deviation of each.
    """

    def __init__(self, count: int, mu: float, sigma: float) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.full((count, 1, 1), mu))
        self.log_sigma = nn.Parameter(torch.full((count, 1, 1), sigma).log())

    def forward(self, z: Tensor) -> Tensor:
        """Map latents z [count * B, 1] to points [count * B, 1]."""
        return (self.mu + self.log_sigma.exp() * z.unflatten(0, (len(self.mu), -1))).flatten(0, 1)


@dataclass
class Divergences:
    """Fit a Gaussian to a mixture of two Gaussians by the f-GAN, for each f, and compare with the exact minimum.

    Both players of eq. (4) take alternating steps of Adam, the discriminator first; all games are played at once. The
    exact minimum of each divergence is computed by quadrature. Maximum likelihood is the minimum of KL(P || Q) over Q
    (Goodfellow 2016, arXiv:1701.00160, section 2.1), so mean and standard deviation of a sample are its fit.

    Args:
        seed: of all random numbers.
        steps: of each player.
        batch: samples of each density, for each divergence, in a step.
        lr: learning rate of the discriminators.
        lr_ratio: the generators' learning rate relative to the discriminators' (two time scales, Heusel 2017,
            arXiv:1706.08500).
        start: initial mu and sigma.
        sample: size of the sample for maximum likelihood.

    Reference: Nowozin 2016, arXiv:1606.00709, section 2.5 and table 3.
    """

    seed: int = 0
    steps: PositiveInt = 2000
    batch: PositiveInt = 256
    lr: PositiveFloat = 5e-3
    lr_ratio: PositiveFloat = 1.0
    start: tuple[float, float] = (0.5, 0.8)
    sample: PositiveInt = 200_000

    def run(self) -> LabResult:
        """Train all games and compare the fits."""
        torch.manual_seed(derive_seed(self.seed, "divergences"))
        trained = self._train()
        exact = [nearest(P, kind()) for kind in KINDS]
        table: list[Row] = [
            {
                "divergence": kind.__name__,
                "mu, trained": mu,
                "mu, integrated": m,
                "sigma, trained": sigma,
                "sigma, integrated": s,
                "error": max(abs(mu - m) / P.sd, abs(sigma / s - 1)),
            }
            for kind, (mu, sigma), (m, s) in zip(KINDS, trained, exact)
        ]
        checks = [Check(f"{row['divergence']}: error", float(row["error"]), "<", 0.03) for row in table]
        checks.append(_check_order([sigma for _, sigma in trained], [sigma for _, sigma in exact]))
        return LabResult(table, _figure(trained, exact), [*checks, *self._check_likelihood(exact[0])])

    def _train(self) -> list[tuple[float, float]]:
        """Play all games at once and return the final (mu, sigma) of each."""
        objectives = [FDivergence(kind(), "saturating") for kind in KINDS]
        critics, generators = Critics(len(KINDS), width=32), Gaussians(len(KINDS), *self.start)
        networks = [(critics, self.lr), (generators, self.lr * self.lr_ratio)]
        optimizers = [torch.optim.Adam(n.parameters(), lr=lr, betas=(0.5, 0.99), fused=True) for n, lr in networks]
        schedules = [CosineAnnealingLR(optimizer, self.steps) for optimizer in optimizers]
        for _ in range(self.steps):
            for player, optimizer, schedule in zip(("discriminator", "generator"), optimizers, schedules):
                fake = generators(_samples(Mixture(), self.batch))
                rounds = _split(Round(_samples(P, self.batch), fake, critics), len(KINDS))
                optimizer.zero_grad()
                sum((getattr(o, player)(r) for o, r in zip(objectives, rounds)), torch.zeros(())).backward()
                optimizer.step()
                schedule.step()
        return list(zip(generators.mu.flatten().tolist(), generators.log_sigma.exp().flatten().tolist()))

    def _check_likelihood(self, kl: tuple[float, float]) -> list[Check]:
        x = P.quantile(torch.rand(self.sample))  # independent samples, as maximum likelihood assumes
        mean, sd = x.mean().item(), x.std(correction=0).item()
        return [
            Check("maximum likelihood: |mu - that of min KL| / sd", abs(mean - kl[0]) / P.sd, "<", 0.01),
            Check("maximum likelihood: |sigma / that of min KL - 1|", abs(sd / kl[1] - 1), "<", 0.01),
        ]


def _check_order(trained: Sequence[float], exact: Sequence[float]) -> Check:
    """Count the pairs of divergences, with sigmas at least 0.5 % apart, whose sigmas training puts in reverse order."""
    pairs = [(a, b) for a, b in permutations(range(len(exact)), 2) if exact[a] > 1.005 * exact[b]]
    wrong = sum(trained[a] <= trained[b] for a, b in pairs)
    return Check(f"sigmas in the wrong order, of {len(pairs)} pairs", wrong, "<", 0.5)


def _samples(density: Mixture, n: int) -> Tensor:
    """Draw different samples for every game, [games * n, 1].

    If the same samples were used in every step, a critic of an unbounded f would find places with fake samples and
    without real ones.
    """
    return torch.cat([density.sample(n) for _ in KINDS])


def _split(round: Round, count: int) -> list[Round]:
    """Compute the scores of all games together and return a Round for each."""
    real, fake = (v.score.unflatten(0, (count, -1)) for v in (round.on_real, round.on_fake))
    return [Round(r, f, CriticOutput) for r, f in zip(real, fake)]


def _figure(trained: Sequence[tuple[float, float]], exact: Sequence[tuple[float, float]]) -> Figure:
    """Plot P with two of the fits, and mu and sigma of all fits."""
    figure = Figure((10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    x = grid(601, 5.0)
    left.fill_between(x, P.log_density(x).exp(), alpha=0.25, lw=0, label="P")
    for kind, (mu, sigma) in list(zip(KINDS, trained))[2:4]:  # the widest and the narrowest
        left.plot(x, Mixture(means=(mu,), sds=(sigma,)).log_density(x).exp(), label=kind.__name__)
    left.set(title="the mixture and two of the fits", xlim=(-4, 5))
    left.legend()
    right.plot(*zip(*exact), "ko", ms=10, mfc="none", label="integrated")
    right.plot(*zip(*trained), "C3x", label="trained by the game")
    for i, (kind, position) in enumerate(zip(KINDS, exact)):
        side, align = ((9, "left"), (-9, "right"))[i % 2]
        down = (i in (4, 5)) * 6  # four labels are close together there
        right.annotate(kind.__name__, position, (side, 1 - down), textcoords="offset points", fontsize=8, ha=align)
    right.locator_params(axis="x", nbins=5)
    right.set(title="the nearest Gaussian, by each divergence", xlabel="mu", ylabel="sigma")
    right.margins(x=0.35)
    right.legend(loc="lower left")
    return figure

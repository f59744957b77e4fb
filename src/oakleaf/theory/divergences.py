"""Which Gaussian each divergence prefers, found by playing the game."""

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
from oakleaf.theory.finding import Check, Finding, Row
from oakleaf.theory.fits import nearest

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
    """Generators z -> mu + sigma z, one for each game."""

    def __init__(self, count: int, mu: float, sigma: float) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.full((count, 1, 1), mu))
        self.log_sigma = nn.Parameter(torch.full((count, 1, 1), sigma).log())

    def forward(self, z: Tensor) -> Tensor:
        """z [count * B, 1] -> [count * B, 1]"""
        return (self.mu + self.log_sigma.exp() * z.unflatten(0, (len(self.mu), -1))).flatten(0, 1)


@dataclass
class Divergences:
    """A Gaussian is fitted to a mixture of two by f-GAN, for each f, as in Nowozin 2016, arXiv:1606.00709, section 2.5
    and table 3: the game eq. (4), both sides of it, by alternating steps of Adam. The fit stands beside the minimum of
    the divergence itself by integration. Maximum likelihood is the minimum of KL(P || Q) over Q (Goodfellow 2016,
    arXiv:1701.00160, section 2.1), so the sample's mean and sd are its fit.

    start: of mu and sigma. lr_ratio: the generator's rate over the discriminator's (two time scales, Heusel 2017,
    arXiv:1706.08500).
    """

    seed: int = 0
    steps: PositiveInt = 2000
    batch: PositiveInt = 256
    lr: PositiveFloat = 5e-3
    lr_ratio: PositiveFloat = 1.0
    start: tuple[float, float] = (0.5, 0.8)
    sample: PositiveInt = 200_000

    def run(self) -> Finding:
        torch.manual_seed(derive_seed(self.seed, "divergences"))
        trained = self._play()
        exact = [nearest(P, kind()) for kind in KINDS]
        table: list[Row] = [
            {
                "divergence": kind.__name__,
                "mu, trained": mu,
                "mu, integrated": m,
                "sigma, trained": sigma,
                "sigma, integrated": s,
                "off by": max(abs(mu - m) / P.sd, abs(sigma / s - 1)),
            }
            for kind, (mu, sigma), (m, s) in zip(KINDS, trained, exact)
        ]
        checks = [Check(f"{row['divergence']}: off by", float(row["off by"]), "<", 0.03) for row in table]
        checks.append(_order([sigma for _, sigma in trained], [sigma for _, sigma in exact]))
        return Finding(table, _figure(trained, exact), [*checks, *self._likelihood(exact[0])])

    def _play(self) -> list[tuple[float, float]]:
        """All games at once; (mu, sigma) of each at the end."""
        objectives = [FDivergence(kind(), "saturating") for kind in KINDS]
        critics, generators = Critics(len(KINDS), width=32), Gaussians(len(KINDS), *self.start)
        learned = [(critics, self.lr), (generators, self.lr * self.lr_ratio)]
        optimizers = [torch.optim.Adam(n.parameters(), lr=lr, betas=(0.5, 0.99), fused=True) for n, lr in learned]
        schedules = [CosineAnnealingLR(optimizer, self.steps) for optimizer in optimizers]
        for _ in range(self.steps):
            for player, optimizer, schedule in zip(("discriminator", "generator"), optimizers, schedules):
                fake = generators(_each(Mixture(), self.batch))
                rounds = _parts(Round(_each(P, self.batch), fake, critics), len(KINDS))
                optimizer.zero_grad()
                sum((getattr(o, player)(r) for o, r in zip(objectives, rounds)), torch.zeros(())).backward()
                optimizer.step()
                schedule.step()
        return list(zip(generators.mu.flatten().tolist(), generators.log_sigma.exp().flatten().tolist()))

    def _likelihood(self, kl: tuple[float, float]) -> list[Check]:
        x = P.quantile(torch.rand(self.sample))  # independent draws, as likelihood has them
        mean, sd = x.mean().item(), x.std(correction=0).item()
        return [
            Check("maximum likelihood: |mu - that of min KL| / sd", abs(mean - kl[0]) / P.sd, "<", 0.01),
            Check("maximum likelihood: |sigma / that of min KL - 1|", abs(sd / kl[1] - 1), "<", 0.01),
        ]


def _order(trained: Sequence[float], exact: Sequence[float]) -> Check:
    """Of all pairs whose widths are at least 0.5 % apart, those that training puts the other way round."""
    pairs = [(a, b) for a, b in permutations(range(len(exact)), 2) if exact[a] > 1.005 * exact[b]]
    wrong = sum(trained[a] <= trained[b] for a, b in pairs)
    return Check(f"sigmas in the wrong order, of {len(pairs)} pairs", wrong, "<", 0.5)


def _each(density: Mixture, n: int) -> Tensor:
    """Fresh samples for every game, [games * n, 1]; with ever the same ones a critic of an unbounded f would find
    places where fake ones are and real ones are not."""
    return torch.cat([density.sample(n) for _ in KINDS])


def _parts(round: Round, count: int) -> list[Round]:
    """The round of each game, judged together."""
    real, fake = (v.score.unflatten(0, (count, -1)) for v in (round.on_real, round.on_fake))
    return [Round(r, f, CriticOutput) for r, f in zip(real, fake)]


def _figure(trained: Sequence[tuple[float, float]], exact: Sequence[tuple[float, float]]) -> Figure:
    """P with two of the fits, and where all of them lie."""
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
    for i, (kind, place) in enumerate(zip(KINDS, exact)):
        side, align = ((9, "left"), (-9, "right"))[i % 2]
        down = (i in (4, 5)) * 6  # where four crowd together
        right.annotate(kind.__name__, place, (side, 1 - down), textcoords="offset points", fontsize=8, ha=align)
    right.locator_params(axis="x", nbins=5)
    right.set(title="the nearest Gaussian, by each divergence", xlabel="mu", ylabel="sigma")
    right.margins(x=0.35)
    right.legend(loc="lower left")
    return figure

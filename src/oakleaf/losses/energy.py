"""Objectives for a discriminator whose score is minus an energy.

The energy is low at the data and high elsewhere, such as the reconstruction error of an auto-encoder. What the papers
call D(x) or L(x) is `-score` here. No such objective has a fixed threshold between real and fake.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import relu

from oakleaf.config.types import NonNegativeFloat, PositiveFloat
from oakleaf.losses.stateful import Stateful
from oakleaf.round import Round
from oakleaf.runtime import distributed


@dataclass
class Margin:
    """EBGAN: D gives real images a low energy and fake images an energy of at least `margin`; G minimises the energy.

    The energy is bounded below by 0 in both terms: for a reconstruction error that changes nothing, and for an
    unbounded score it makes the loss a hinge with the margins 0 and `margin`, which would otherwise diverge.

    Args:
        margin: m of the paper, in units of the energy.

    Reference: Zhao 2016, arXiv:1609.03126, eq. (1) and (2).
    """

    margin: PositiveFloat = 10.0

    def discriminator(self, round: Round) -> Tensor:
        real, fake = -round.on_real.score, -round.on_fake.score
        return relu(real).mean() + relu(self.margin - fake).mean()

    def generator(self, round: Round) -> Tensor:
        return -round.on_fake.score.mean()


class Equilibrium(Stateful):
    """BEGAN: D minimises L(x) - k L(G(z)), G minimises L(G(z)), and k keeps E L(G(z)) at gamma times E L(x).

        k' = k + rate (gamma L(x) - L(G(z))), within [0, 1], from 0 on

    k is updated after each step of G, from means over all processes: L(G(z)) of that step, L(x) of D's last step.

    With an unbounded score instead of a reconstruction error there is no smallest L(x), and gamma is no ratio any more:
    k goes to 1, and the Wasserstein loss is left, which needs a constraint or a penalty.

    Args:
        gamma: diversity ratio; smaller values give cleaner and less varied images.
        rate: step of k, lambda_k of the paper.

    Reference: Berthelot 2017, arXiv:1703.10717, sections 3.3 and 3.4.
    """

    k: Tensor  # []
    means: Tensor  # [2]: L(x) of D's last step, L(G(z)) of G's
    sums: Tensor  # [2, 2]: sums of both in this step, and numbers of rounds

    def __init__(self, gamma: PositiveFloat = 0.5, rate: NonNegativeFloat = 0.001) -> None:
        super().__init__()
        self.gamma, self.rate = gamma, rate
        self.register_buffer("k", torch.zeros(()))
        self.register_buffer("means", torch.zeros(2))
        self.register_buffer("sums", torch.zeros(2, 2), persistent=False)

    def discriminator(self, round: Round) -> Tensor:
        real, fake = -round.on_real.score.mean(), -round.on_fake.score.mean()
        self._record(0, real)
        return real - self.k * fake

    def generator(self, round: Round) -> Tensor:
        fake = -round.on_fake.score.mean()
        self._record(1, fake)
        return fake

    def _record(self, side: int, mean: Tensor) -> None:
        self.sums[side] += torch.stack([mean.detach(), torch.ones_like(mean)])

    @torch.no_grad()
    def update_state(self) -> None:
        """Update k from the losses of the last step."""
        sums, counts = self.sums.unbind(1)
        computed = (counts > 0) & sums.isfinite()  # a step with NaN changes nothing
        computed[0] &= counts[1] == 0  # D's losses inside G's step are those of an unrolled D
        means = torch.where(computed, sums / counts.clamp(min=1), self.means)
        distributed.all_reduce_mean([means])
        self.means.copy_(means)
        balance = self.gamma * means[0] - means[1]
        self.k.add_(self.rate * balance * computed[1]).clamp_(0, 1)
        self.sums.zero_()

    def diagnostics(self, round: Round) -> dict[str, Tensor]:
        """Return k and the convergence measure M = L(x) + |gamma L(x) - L(G(z))| (section 3.4.1)."""
        real, fake = -round.on_real.score.mean(), -round.on_fake.score.mean()
        convergence = real + (self.gamma * real - fake).abs()
        return {"objective/k": self.k.clone(), "objective/convergence": convergence}

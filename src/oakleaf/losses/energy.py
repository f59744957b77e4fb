"""Losses for a critic whose score is minus an energy: low at the data and high elsewhere, such as the error with which
an auto-encoder gives an image back. What the papers call D(x) or L(x) is -score here.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import relu

from oakleaf.config.types import NonNegativeFloat, PositiveFloat
from oakleaf.losses.stateful import StatefulObjective
from oakleaf.round import Round
from oakleaf.runtime import distributed


class _Energy:
    """How to read minus an energy. It has no zero between real and fake, so "real" is what lies above the middle of the
    batch's two means.
    """

    def discriminator_probability(self, score: Tensor) -> Tensor:
        return -score

    def decision_threshold(self, round: Round) -> Tensor:
        return (round.on_real.score.mean() + round.on_fake.score.mean()) / 2


@dataclass
class Margin(_Energy):
    """EBGAN: D gives real images a low energy, and fakes one of at least `margin`; G minimises it. Zhao 2016,
    arXiv:1609.03126, eq. (1) and (2). A margin is in the energy's units.

    An energy is never below 0, and D is paid for nothing beyond. For a reconstruction's error that changes nothing; a
    free score becomes a hinge with margins 0 and `margin`, where it would run away.
    """

    margin: PositiveFloat = 10.0

    def discriminator(self, round: Round) -> Tensor:
        real, fake = -round.on_real.score, -round.on_fake.score
        return relu(real).mean() + relu(self.margin - fake).mean()

    def generator(self, round: Round) -> Tensor:
        return -round.on_fake.score.mean()


class Equilibrium(_Energy, StatefulObjective):
    """BEGAN: D minimises L(x) - k L(G(z)), G minimises L(G(z)), and k keeps E L(G(z)) at gamma times E L(x). Berthelot
    2017, arXiv:1703.10717, sections 3.3 and 3.4:

        k' = k + rate (gamma L(x) - L(G(z))), within [0, 1], from 0 on.

    k moves after each turn of G, by the means over all processes: L(G(z)) of that turn, L(x) of D's latest.
    gamma: the diversity ratio; the lower, the less varied and the cleaner the images.

    A free score has no least L(x), so gamma is no ratio any more: k goes to 1, and what is left is Wasserstein's loss,
    which needs a constraint or a penalty.
    """

    k: Tensor  # []
    means: Tensor  # [2]: L(x) of D's latest turn, L(G(z)) of G's
    sums: Tensor  # [2, 2]: of both in this turn, and over how many rounds

    def __init__(self, gamma: PositiveFloat = 0.5, rate: NonNegativeFloat = 0.001) -> None:
        super().__init__()
        self.gamma, self.rate = gamma, rate
        self.register_buffer("k", torch.zeros(()))
        self.register_buffer("means", torch.zeros(2))
        self.register_buffer("sums", torch.zeros(2, 2), persistent=False)

    def discriminator(self, round: Round) -> Tensor:
        real, fake = -round.on_real.score.mean(), -round.on_fake.score.mean()
        self._note(0, real)
        return real - self.k * fake

    def generator(self, round: Round) -> Tensor:
        fake = -round.on_fake.score.mean()
        self._note(1, fake)
        return fake

    def _note(self, side: int, mean: Tensor) -> None:
        self.sums[side] += torch.stack([mean.detach(), torch.ones_like(mean)])

    @torch.no_grad()
    def update_state(self) -> None:
        """Let k follow what the turn has shown."""
        sums, counts = self.sums.unbind(1)
        played = (counts > 0) & sums.isfinite()  # a turn with NaN is as if it had not been
        played[0] &= counts[1] == 0  # D's steps within G's turn are those that an unrolled G foresees
        means = torch.where(played, sums / counts.clamp(min=1), self.means)
        distributed.all_reduce_mean([means])
        self.means.copy_(means)
        balance = self.gamma * means[0] - means[1]
        self.k.add_(self.rate * balance * played[1]).clamp_(0, 1)
        self.sums.zero_()

    def diagnostics(self, round: Round) -> dict[str, Tensor]:
        """k, and the measure of convergence M = L(x) + |gamma L(x) - L(G(z))|, section 3.4.1."""
        real, fake = -round.on_real.score.mean(), -round.on_fake.score.mean()
        return {"k": self.k.clone(), "convergence": real + (self.gamma * real - fake).abs()}

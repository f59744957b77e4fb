"""The LeCam regulariser of the critic."""

import torch
from torch import Tensor
from torch.nn.functional import relu

from oakleaf.config.types import Fraction, NonNegativeInt, PositiveInt
from oakleaf.losses.terms import Term
from oakleaf.round import Round
from oakleaf.runtime import distributed


class LeCam(Term):
    """Keep the critic's scores near moving averages of its scores for the other side.

    With the averages a_R and a_F of the scores of real and of fake images the term is

        E[(D(x) - a_F)^2] + E[(D(G(z)) - a_R)^2]

    and with `one_sided` each difference counts only where the critic separates the sides: relu(D(x) - a_F) and
    relu(a_R - D(G(z))). The first form is the paper's equation, the second the authors' code.

    The averages are those of the steps before, over all processes, and are updated after each step in which the term is
    computed. They follow the last step alone until the term begins, as in the code.

    Args:
        weight: lambda; the authors take 0.3 for BigGAN on CIFAR-10, with the hinge loss.
        decay: of the moving averages, for each step.
        start: steps of the critic before the term begins.
        one_sided: the form of the authors' code.
        every: as for `Term`.

    Attributes:
        averages: a_R and a_F, [2].
        steps: steps so far, a tensor [].

    Reference: Tseng 2021, arXiv:2104.03310, eq. (4) and (5); the defaults are those of the authors' code.
    """

    averages: Tensor
    steps: Tensor
    recorded: Tensor  # [3]: in this step, the sums of both mean scores over the rounds, and the number of rounds

    def __init__(
        self,
        weight: float = 0.3,
        decay: Fraction = 0.99,
        start: NonNegativeInt = 1000,
        one_sided: bool = True,
        every: PositiveInt = 1,
    ) -> None:
        super().__init__(weight, every)
        self.decay, self.one_sided = decay, one_sided
        self.first_step = max(start, 1)  # there are no averages before the first step
        self.register_buffer("averages", torch.zeros(2))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("recorded", torch.zeros(3), persistent=False)

    def measure(self, round: Round) -> Tensor:
        real, fake = round.on_real.score.float(), round.on_fake.score.float()
        with torch.no_grad():
            self.recorded += torch.stack([real.mean(), fake.mean(), torch.ones_like(real.mean())])
        a_real, a_fake = self.averages.clone().unbind()  # a copy, as they change before the backward pass is over
        differences = real - a_fake, a_real - fake
        if self.one_sided:
            differences = relu(differences[0]), relu(differences[1])
        value = differences[0].square().mean() + differences[1].square().mean()
        return torch.where(self.steps >= self.first_step, value, 0.0 * value)

    @torch.no_grad()
    def update_state(self) -> None:
        """Update the averages after a step in which the term was computed. A step with NaN changes nothing."""
        recorded = distributed.take_mean(self.recorded)
        counted = (recorded[2] > 0) & recorded.isfinite().all()
        means = recorded[:2] / recorded[2].clamp(min=1)
        kept = torch.where(self.steps < self.first_step, 0.0, self.decay)
        self.averages.copy_(torch.where(counted, kept * self.averages + (1 - kept) * means, self.averages))
        self.steps.add_(counted)

    def diagnostics(self, round: Round) -> dict[str, Tensor]:
        """Return both averages."""
        return {"lecam/real": self.averages[0].clone(), "lecam/fake": self.averages[1].clone()}

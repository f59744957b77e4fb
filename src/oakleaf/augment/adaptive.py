"""A probability that follows how much the critic has overfitted."""

from abc import ABC

import torch
from torch import Tensor

from oakleaf.augment.augmentation import Augmentation
from oakleaf.config.types import PositiveInt, Probability
from oakleaf.round import Round
from oakleaf.runtime import distributed


class WithProbability(Augmentation, ABC):
    """An augmentation whose strength is a probability p, fixed or adapted to the critic.

    The critic overfits when it decides for "real" on nearly all training images. Its measure is

        r_t = E[sign(D(real))],

    the mean over `interval` steps of the critic and over all processes. After these steps p is raised if r_t is above
    the target and lowered if it is below, by the number of images in these steps divided by `images`. For an objective
    whose scores are no logits, the sign is that of the distance from the score at which the critic does not decide.

    Args:
        p: the probability at the beginning, or throughout.
        target: r_t at which p stays.
        images: images after which p has moved by 1.
        interval: steps of the critic between two changes of p.
        adaptive: whether p changes.

    Attributes:
        p: the present probability in [0, 1]: a tensor [] if it adapts, else a number, which a schedule may change.
        r_t: of the last interval, a tensor [].

    Reference: Karras 2020, arXiv:2006.06676, section 3.
    """

    p: Tensor | float
    r_t: Tensor
    recorded: Tensor  # [3]: in this step, the sum of the mean signs, the number of rounds, the number of images
    totals: Tensor  # [4]: the same in this interval, and the number of steps

    def __init__(
        self,
        p: Probability,
        target: float,
        images: PositiveInt,
        interval: PositiveInt,
        adaptive: bool,
    ) -> None:
        super().__init__()
        self.target, self.images, self.interval, self.adaptive = target, images, interval, adaptive
        if adaptive:
            self.register_buffer("p", torch.tensor(float(p)))
        else:
            self.p = p
        self.register_buffer("r_t", torch.zeros(()))
        self.register_buffer("totals", torch.zeros(4))
        self.register_buffer("recorded", torch.zeros(3), persistent=False)

    @torch.no_grad()
    def observe(self, round: Round, threshold: Tensor | float = 0.0) -> None:
        score = round.on_real.score.detach().float()
        sign = torch.where(score.isfinite().all(), (score - threshold).sign().mean(), torch.nan)
        one = torch.ones_like(sign)
        self.recorded += torch.stack([sign, one, one * len(score)])

    @torch.no_grad()
    def update_state(self) -> None:
        """Change p at the end of an interval. A step of another player, or one with NaN, counts for nothing."""
        recorded = distributed.take_mean(self.recorded)
        counted = (recorded[1] > 0) & recorded.isfinite().all()
        one = torch.ones_like(recorded[:1])
        self.totals += torch.where(counted, torch.cat([recorded, one]), 0.0)
        signs, rounds, images, steps = self.totals.unbind()
        complete = steps >= self.interval
        r_t = signs / rounds.clamp(min=1)
        # each of several rounds of a step has its own images of the same batch
        seen = images / rounds.clamp(min=1) * steps * distributed.rank_and_world_size()[1]
        self.r_t.copy_(torch.where(complete, r_t, self.r_t))
        if isinstance(self.p, Tensor) and self.adaptive:
            self.p.add_(torch.where(complete, (r_t - self.target).sign() * seen / self.images, 0.0)).clamp_(0, 1)
        self.totals.mul_(~complete)

    def diagnostics(self, round: Round) -> dict[str, Tensor]:
        """Return p, and r_t of the last interval."""
        return {"augment/p": torch.zeros_like(self.r_t) + self.p, "augment/r_t": self.r_t.clone()}

    def chosen(self, count: int) -> Tensor:
        """Draw which of `count` images an operation is applied to, each with probability p: bool [count]."""
        return torch.rand(count, device=self.r_t.device) < self.p

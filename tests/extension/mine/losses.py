"""A pair of adversarial losses."""

from torch import Tensor
from torch.nn.functional import relu

from oakleaf.config.types import PositiveFloat
from oakleaf.round import Round


class MarginHinge:
    """The hinge loss with a margin that can be chosen; a margin of 1 is `loss=hinge`.

    Args:
        margin: real scores should be above it, fake scores below minus it.

    Reference: Lim & Ye 2017, arXiv:1705.02894.
    """

    def __init__(self, margin: PositiveFloat = 1.0) -> None:
        self.margin = margin

    def discriminator(self, round: Round) -> Tensor:
        real, fake = round.on_real.score, round.on_fake.score
        return relu(self.margin - real).mean() + relu(self.margin + fake).mean()

    def generator(self, round: Round) -> Tensor:
        return -round.on_fake.score.mean()

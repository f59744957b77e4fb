"""A further term of a player's loss."""

from torch import Tensor

from oakleaf.losses.terms import Term
from oakleaf.round import Round


class MeanImage(Term):
    """Penalise the squared distance between the mean generated and the mean real image of a batch."""

    def measure(self, round: Round) -> Tensor:
        return (round.fake.mean(0) - round.real.mean(0)).square().mean()

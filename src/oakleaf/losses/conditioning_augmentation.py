"""The regulariser of StackGAN's conditioning augmentation."""

from torch import Tensor

from oakleaf.errors import UserError
from oakleaf.losses.terms import Term
from oakleaf.round import ConditionalRound, Round


class ConditioningDivergence(Term):
    """KL(N(mu(y), sd(y)^2) || N(0, I)) of the generator's conditioning augmentation.

    It is the mean over texts and, as in the authors' code, over the numbers of c.

    Reference: Zhang 2016 (StackGAN), arXiv:1612.03242, eq. (2).
    """

    def measure(self, round: Round) -> Tensor:
        augmentation = getattr(round.generator, "augmentation", None) if isinstance(round, ConditionalRound) else None
        if augmentation is None:
            raise UserError("a term needs a generator with conditioning augmentation; model=stackgan has one")
        return augmentation.divergence(round.y).mean() / augmentation.text  # type: ignore[attr-defined]

"""What a generator of images from texts pays besides the adversarial loss."""

from torch import Tensor

from oakleaf.errors import UserError
from oakleaf.losses.terms import Term
from oakleaf.round import ConditionalRound, Round


class Conditioning(Term):
    """KL(N(mu(y), sd(y)^2) || N(0, I)) of the generator's conditioning augmentation, the mean over texts and, as in the
    authors' code, over c's numbers. Zhang 2016, arXiv:1612.03242, eq. (2).
    """

    def measure(self, round: Round) -> Tensor:
        augmentation = getattr(round.generator, "augmentation", None) if isinstance(round, ConditionalRound) else None
        if augmentation is None:
            raise UserError("the generator augments no text, which one of its terms asks for: model=stackgan does")
        return augmentation.divergence(round.y).mean() / augmentation.text  # type: ignore[attr-defined]

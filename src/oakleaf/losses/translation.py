"""What a translator pays besides the adversarial loss."""

from torch import Tensor

from oakleaf.losses.terms import Term
from oakleaf.round import Round


class L1(Term):
    """E |y - G(x)|, the mean over all values; images are in [-1, 1]. Isola 2016, arXiv:1611.07004, eq. (3)."""

    def measure(self, round: Round) -> Tensor:
        return (round.fake - round.real).abs().mean()


class L2(Term):
    """E (y - G(x))^2, the mean over all values; images are in [-1, 1]. Pathak 2016, arXiv:1604.07379, eq. (1)."""

    def measure(self, round: Round) -> Tensor:
        return (round.fake - round.real).square().mean()

"""Terms of image-to-image translation."""

from torch import Tensor

from oakleaf.errors import UserError
from oakleaf.losses.terms import Term
from oakleaf.round import CycleRound, Round


class L1(Term):
    """E |y - G(x)|, the mean over all values; images are in [-1, 1].

    Reference: Isola 2016 (pix2pix), arXiv:1611.07004, eq. (3).
    """

    def measure(self, round: Round) -> Tensor:
        return (round.fake - round.real).abs().mean()


class L2(Term):
    """E (y - G(x))^2, the mean over all values; images are in [-1, 1].

    Reference: Pathak 2016 (context encoder), arXiv:1604.07379, eq. (1).
    """

    def measure(self, round: Round) -> Tensor:
        return (round.fake - round.real).square().mean()


class Cycle(Term):
    """Cycle consistency: E |F(G(x)) - x|, the mean over all values.

    Reference: Zhu 2017 (CycleGAN), arXiv:1703.10593, eq. (2).
    """

    def measure(self, round: Round) -> Tensor:
        cycle = _cycle_round(round)
        return (cycle.reconstruction() - cycle.x).abs().mean()


class Identity(Term):
    """Identity mapping: E |G(y) - y|, so that G keeps images that already belong to its target domain.

    Reference: Zhu 2017 (CycleGAN), arXiv:1703.10593, section 5.2.
    """

    def measure(self, round: Round) -> Tensor:
        cycle = _cycle_round(round)
        if cycle.real.shape[1] != cycle.x.shape[1]:
            raise UserError(
                "the identity term needs images and inputs with the same channels: "
                "~model.game.terms.generator.identity, or data.channels=3 data.input_channels=3"
            )
        return (cycle.identity() - cycle.real).abs().mean()


def _cycle_round(round: Round) -> CycleRound:
    if not isinstance(round, CycleRound):
        raise UserError("a cycle or identity term needs a game with two generators, such as model=cyclegan")
    return round

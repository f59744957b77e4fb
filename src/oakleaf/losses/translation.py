"""What a translator pays besides the adversarial loss."""

from torch import Tensor

from oakleaf.errors import UserError
from oakleaf.losses.terms import Term
from oakleaf.round import CycleRound, Round


class L1(Term):
    """E |y - G(x)|, the mean over all values; images are in [-1, 1]. Isola 2016, arXiv:1611.07004, eq. (3)."""

    def measure(self, round: Round) -> Tensor:
        return (round.fake - round.real).abs().mean()


class L2(Term):
    """E (y - G(x))^2, the mean over all values; images are in [-1, 1]. Pathak 2016, arXiv:1604.07379, eq. (1)."""

    def measure(self, round: Round) -> Tensor:
        return (round.fake - round.real).square().mean()


class Cycle(Term):
    """E |F(G(x)) - x|, the mean over all values. Zhu 2017, arXiv:1703.10593, eq. (2)."""

    def measure(self, round: Round) -> Tensor:
        cycle = _cycle_round(round)
        return (cycle.reconstruction() - cycle.x).abs().mean()


class Identity(Term):
    """E |G(y) - y|: what is already an image should stay. Zhu 2017, arXiv:1703.10593, section 5.2."""

    def measure(self, round: Round) -> Tensor:
        cycle = _cycle_round(round)
        if cycle.real.shape[1] != cycle.x.shape[1]:
            raise UserError(
                "images and inputs differ in channels, so nothing stays as it is: "
                "~model.game.terms.generator.identity, or data.channels=3 data.input_channels=3"
            )
        return (cycle.identity() - cycle.real).abs().mean()


def _cycle_round(round: Round) -> CycleRound:
    if not isinstance(round, CycleRound):
        raise UserError("there is no way back in this game, which one of its terms asks for: model=cyclegan has one")
    return round

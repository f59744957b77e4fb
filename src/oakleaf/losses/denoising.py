"""The loss of denoising auto-encoders, whose output minus input estimates the gradient of a log-density."""

from typing import Literal

from torch import Tensor

from oakleaf.conditioning.code import with_noise
from oakleaf.config.types import PositiveFloat, PositiveInt
from oakleaf.errors import UserError
from oakleaf.losses.terms import Term
from oakleaf.round import ConditionalRound, Round


class Denoising(Term):
    """The squared distance of a network's reconstruction of noisy rows from the rows, the mean over all values.

    The network is a player of the game. For Gaussian noise of a small standard deviation sigma, (R(v) - v) / sigma^2
    is the gradient of log p at v.

    Args:
        network: the name of the player.
        of: `code`, the codes that the images are generated from, or `image`, the real images.
        noise: standard deviation of the noise, as a share of the root mean square of the rows' values.
        weight, every: as for `Term`.

    Reference: Alain & Bengio 2014, arXiv:1211.4246, theorem 1; Nguyen 2016, arXiv:1612.00005, eq. (6).
    """

    def __init__(
        self,
        network: str,
        of: Literal["code", "image"] = "code",
        noise: PositiveFloat = 0.1,
        weight: float = 1.0,
        every: PositiveInt = 1,
    ) -> None:
        super().__init__(weight, every)
        self.network, self.of, self.noise = network, of, noise

    def measure(self, round: Round) -> Tensor:
        if self.of == "code" and not isinstance(round, ConditionalRound):
            raise UserError("of=code: the generator of this game has no codes; model=ppgn has")
        rows = round.y.detach() if self.of == "code" else round.real  # type: ignore[attr-defined]
        return (round.networks[self.network](with_noise(rows, self.noise)) - rows).square().mean()

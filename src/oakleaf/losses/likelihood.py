"""Terms of maximum likelihood and reconstruction, for generators that are trained without a discriminator."""

from math import log, pi

import torch
from torch import Tensor

from oakleaf.config.types import PositiveFloat, PositiveInt
from oakleaf.losses.terms import Term
from oakleaf.round import Round


class NegativeLogLikelihood(Term):
    """Minus the mean log-likelihood of real images, in nats per image.

    Its minimum over all densities is the entropy of the data, so it minimises KL(data || model).

    Reference: Goodfellow 2016, arXiv:1701.00160, section 2.1.
    """

    def measure(self, round: Round) -> Tensor:
        return -round.on_real.score.mean()


class SquaredError(Term):
    """||x - D(E(x))||^2, the sum over an image's values, averaged over images.

    Reference: Ghosh 2019, arXiv:1903.12436, section 3, L_REC.
    """

    def measure(self, round: Round) -> Tensor:
        return _squared(round).mean()


class GaussianError(Term):
    """-log N(x; D(z), sd^2 I) with one sample of z, in nats per image.

    Args:
        sd: standard deviation of a value, in units of the images' range [-1, 1]; None: the most likely one for each
            batch, which is the root mean squared error (Rybkin 2020, arXiv:2006.13202, the optimal sigma-VAE).
        weight, every: as for `Term`.

    Reference: Kingma & Welling 2013, arXiv:1312.6114, eq. (10), minus the first term.
    """

    def __init__(self, sd: PositiveFloat | None = None, weight: float = 1.0, every: PositiveInt = 1) -> None:
        super().__init__(weight, every)
        self.sd = sd

    def measure(self, round: Round) -> Tensor:
        squared = _squared(round)
        values = round.real[0].numel()
        if self.sd is not None:
            return squared.mean() / (2 * self.sd**2) + values * (log(self.sd) + 0.5 * log(2 * pi))
        variance = squared.mean() / values
        return 0.5 * values * (torch.log(2 * pi * variance + 1e-12) + 1)


class CodeDivergence(Term):
    """KL(q(z | x) || N(0, I)) for Gaussian codes, in nats per image.

    Reference: Kingma & Welling 2013, arXiv:1312.6114, appendix B.
    """

    def measure(self, round: Round) -> Tensor:
        mean, log_variance = round.fake_inputs["mean"], round.fake_inputs["log_variance"]
        return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1).mean()


def _squared(round: Round) -> Tensor:
    """Return the summed squared error of each image, [B]."""
    return (round.fake.float() - round.real.float()).square().flatten(1).sum(1)

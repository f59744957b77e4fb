"""f-GAN: an adversarial objective for each f-divergence. Nowozin 2016, arXiv:1606.00709.

D_f(P || Q) = E_Q[f(p / q)] is the supremum over T of E_P[T] - E_Q[f*(T)], eq. (4). T = g_f(V), where V is the score and
g_f maps the line onto the domain of the conjugate f* (section 2.4): tables 2 and 6. All g_f increase, so a larger score
means more real.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal

from torch import Tensor
from torch.nn.functional import logsigmoid, relu, softplus

from oakleaf.losses.lambert import lambert_exp
from oakleaf.round import Round

CEILING = 20.0  # beyond this, exponentials continue as their tangents, so that no single sample has an infinite loss


class Divergence(ABC):
    """A convex function f with its output activation g_f and its conjugate f*.

    Attributes:
        threshold: the score at which T = f'(1), where real and fake are equally likely (section 2.4).
    """

    threshold = 0.0

    @abstractmethod
    def f(self, u: Tensor) -> Tensor:
        """Return f(u)."""

    @abstractmethod
    def conjugate(self, t: Tensor) -> Tensor:
        """Return f*(t) = sup_u (u t - f(u))."""

    def activation(self, v: Tensor) -> Tensor:
        """Return g_f(v), which maps a score into the domain of f*; by default the identity."""
        return v

    def fake_loss(self, v: Tensor) -> Tensor:
        """Return f*(g_f(v)), the discriminator's loss of a fake image with score v.

        Subclasses override it where the composition would cancel or overflow.
        """
        return self.conjugate(self.activation(v))


class KullbackLeibler(Divergence):
    """The Kullback-Leibler divergence KL(P || Q)."""

    threshold = 1.0

    def f(self, u: Tensor) -> Tensor:
        return u * u.log()

    def conjugate(self, t: Tensor) -> Tensor:
        return (t - 1).exp()

    def fake_loss(self, v: Tensor) -> Tensor:
        return _exp(v - 1)


class ReverseKullbackLeibler(Divergence):
    """The reverse Kullback-Leibler divergence KL(Q || P)."""

    def f(self, u: Tensor) -> Tensor:
        return -u.log()

    def activation(self, v: Tensor) -> Tensor:
        return -_exp(-v)

    def conjugate(self, t: Tensor) -> Tensor:
        return -1 - (-t).log()

    def fake_loss(self, v: Tensor) -> Tensor:
        return v - 1


class Pearson(Divergence):
    """Pearson's chi-squared, the integral of (p - q)^2 / q."""

    def f(self, u: Tensor) -> Tensor:
        return (u - 1).square()

    def conjugate(self, t: Tensor) -> Tensor:
        return t.square() / 4 + t


class Neyman(Divergence):
    """Neyman's chi-squared, the integral of (p - q)^2 / p."""

    def f(self, u: Tensor) -> Tensor:
        return (1 - u).square() / u

    def activation(self, v: Tensor) -> Tensor:
        return 1 - _exp(-v)

    def conjugate(self, t: Tensor) -> Tensor:
        return 2 - 2 * (1 - t).sqrt()

    def fake_loss(self, v: Tensor) -> Tensor:
        return 2 - 2 * _exp(-v / 2)


class SquaredHellinger(Divergence):
    """The squared Hellinger distance, the integral of (sqrt p - sqrt q)^2."""

    def f(self, u: Tensor) -> Tensor:
        return (u.sqrt() - 1).square()

    def activation(self, v: Tensor) -> Tensor:
        return 1 - _exp(-v)

    def conjugate(self, t: Tensor) -> Tensor:
        return t / (1 - t)

    def fake_loss(self, v: Tensor) -> Tensor:
        return _exp(v) - 1


class Jeffreys(Divergence):
    """The Jeffreys divergence KL(P || Q) + KL(Q || P). f* is computed by Lambert's W at exp(1 - t)."""

    def f(self, u: Tensor) -> Tensor:
        return (u - 1) * u.log()

    def conjugate(self, t: Tensor) -> Tensor:
        w = lambert_exp(1 - t)
        return w + 1 / w + t - 2

    def fake_loss(self, v: Tensor) -> Tensor:
        slope = math.exp(CEILING)  # f*' is 1 / w, and w nearly exp(1 - t) there
        return self.conjugate(v.clamp(max=1 + CEILING)) + slope * relu(v - 1 - CEILING)


class JensenShannon(Divergence):
    """Twice the Jensen-Shannon divergence of Lin 1991, as f is given in table 6 (whose name for it omits the 2)."""

    def f(self, u: Tensor) -> Tensor:
        return u * u.log() - (u + 1) * ((1 + u) / 2).log()

    def activation(self, v: Tensor) -> Tensor:
        return math.log(2) + logsigmoid(v)

    def conjugate(self, t: Tensor) -> Tensor:
        return -(2 - t.exp()).log()

    def fake_loss(self, v: Tensor) -> Tensor:
        return softplus(v) - math.log(2)


class GAN(Divergence):
    """The divergence of the original GAN: Jensen-Shannon minus log 4 (Goodfellow 2014, arXiv:1406.2661, eq. (1))."""

    def f(self, u: Tensor) -> Tensor:
        return u * u.log() - (u + 1) * (u + 1).log()

    def activation(self, v: Tensor) -> Tensor:
        return logsigmoid(v)

    def conjugate(self, t: Tensor) -> Tensor:
        return -(1 - t.exp()).log()

    def fake_loss(self, v: Tensor) -> Tensor:
        return softplus(v)


class FDivergence:
    """The f-GAN objective: D maximises E_P[g_f(V)] - E_Q[f*(g_f(V))] (section 2.4).

    Args:
        divergence: the f-divergence.
        generator: "saturating": G minimises the same value, an estimate of the divergence. "alternative": G maximises
            E_Q[g_f(V)], the counterpart of the non-saturating loss (section 3.2).

    Reference: Nowozin 2016, arXiv:1606.00709.
    """

    def __init__(self, divergence: Divergence, generator: Literal["saturating", "alternative"] = "alternative") -> None:
        self.divergence = divergence
        self.gain = {"saturating": divergence.fake_loss, "alternative": divergence.activation}[generator]

    def discriminator(self, round: Round) -> Tensor:
        real, fake = round.on_real.score, round.on_fake.score
        return self.divergence.fake_loss(fake).mean() - self.divergence.activation(real).mean()

    def generator(self, round: Round) -> Tensor:
        return -self.gain(round.on_fake.score).mean()

    def decision_threshold(self, round: Round) -> float:
        return self.divergence.threshold


def _exp(v: Tensor) -> Tensor:
    """Return exp(v), continued by its tangent beyond CEILING."""
    return v.clamp(max=CEILING).exp() * (1 + relu(v - CEILING))

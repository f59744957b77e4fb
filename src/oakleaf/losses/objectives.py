"""The pairs of adversarial losses, discriminator above generator as in the papers. Scores are logits, larger = real.

Each method takes a Round and returns a scalar, the mean over samples (and over patches, for a PatchGAN).
"""

from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor
from torch.nn.functional import relu, softplus

from oakleaf.config.types import Fraction
from oakleaf.round import Round, require


class Objective(Protocol):
    """The two sides of the game, and how to read the critic's score."""

    def discriminator(self, round: Round) -> Tensor: ...

    def generator(self, round: Round) -> Tensor: ...

    def discriminator_probability(self, score: Tensor) -> Tensor:
        """What the paper calls D(x), from a score: a probability where there is one."""

    def decision_threshold(self, round: Round) -> Tensor | float:
        """The score above which the critic says "real"."""


class _Logistic:
    """Binary cross-entropy of real against fake, with one-sided label smoothing (Salimans 2016, arXiv:1606.03498,
    section 3.4): real targets are 1 - smoothing, fake ones stay 0.
    """

    def __init__(self, smoothing: Fraction = 0.0) -> None:
        self.smoothing = smoothing

    def discriminator(self, round: Round) -> Tensor:
        real, fake = round.on_real.score, round.on_fake.score
        # BCE(sigmoid(s), t) = softplus(-s) + (1 - t) s
        return softplus(-real).mean() + self.smoothing * real.mean() + softplus(fake).mean()

    def discriminator_probability(self, score: Tensor) -> Tensor:
        return score.sigmoid()

    def decision_threshold(self, round: Round) -> float:
        return 0.0


class Saturating(_Logistic):
    """The minimax game: G minimises E log(1 - D(G(z))). Goodfellow 2014, arXiv:1406.2661, eq. (1).

    Its gradient vanishes as soon as D is sure (section 3).
    """

    def generator(self, round: Round) -> Tensor:
        return -softplus(round.on_fake.score).mean()


class NonSaturating(_Logistic):
    """G maximises E log D(G(z)) instead. Goodfellow 2014, arXiv:1406.2661, section 3."""

    def generator(self, round: Round) -> Tensor:
        return softplus(-round.on_fake.score).mean()


class Minimax:
    """The zero-sum form of an objective: G pays minus all that D pays, the real images' part too.

    That part tells G nothing of a D that is given. It does of one that answers to G: with D's steps unrolled
    (`optim.generator.unrolled`), what G learns through them vanishes where D is at its best, as it should, only if it
    is there. Metz 2016, arXiv:1611.02163, eq. (7) and (10); `of`: its f is minus what D pays.
    """

    def __init__(self, of: Objective) -> None:
        self.of = of

    def discriminator(self, round: Round) -> Tensor:
        return self.of.discriminator(round)

    def generator(self, round: Round) -> Tensor:
        return -self.of.discriminator(round)

    def discriminator_probability(self, score: Tensor) -> Tensor:
        return self.of.discriminator_probability(score)

    def decision_threshold(self, round: Round) -> Tensor | float:
        return self.of.decision_threshold(round)


class FeatureMatching(_Logistic):
    """G makes the means of D's features agree, while D plays the logistic game. Salimans 2016, arXiv:1606.03498,
    section 3.1: |E f(x) - E f(G(z))|^2.

    Here it is the mean over features and not the sum, as in the authors' code: squared for MNIST, absolute for
    CIFAR-10 and SVHN.
    """

    def __init__(self, distance: Literal["squared", "absolute"] = "squared", smoothing: Fraction = 0.0) -> None:
        super().__init__(smoothing)
        self.distance = distance

    def generator(self, round: Round) -> Tensor:
        real, fake = (require(on.features, "features").float().mean(0) for on in (round.on_real, round.on_fake))
        apart = fake - real
        return apart.square().mean() if self.distance == "squared" else apart.abs().mean()


@dataclass
class LeastSquares:
    """LSGAN, with labels a for fake, b for real, and c which G wants D to believe. Mao 2016, arXiv:1611.04076, eq. (2);
    (0, 1, 1) is eq. (9), (-1, 1, 0) minimises the Pearson chi-squared divergence, eq. (8).
    """

    a: float = 0.0
    b: float = 1.0
    c: float = 1.0

    def discriminator(self, round: Round) -> Tensor:
        real, fake = round.on_real.score, round.on_fake.score
        return 0.5 * (real - self.b).square().mean() + 0.5 * (fake - self.a).square().mean()

    def generator(self, round: Round) -> Tensor:
        return 0.5 * (round.on_fake.score - self.c).square().mean()

    def discriminator_probability(self, score: Tensor) -> Tensor:
        return score

    def decision_threshold(self, round: Round) -> float:
        return (self.a + self.b) / 2


class Hinge:
    """Margins on both sides for D, a linear loss for G. Lim & Ye 2017, arXiv:1705.02894; Miyato 2018,
    arXiv:1802.05957, eq. (16) and (17).
    """

    def discriminator(self, round: Round) -> Tensor:
        return relu(1 - round.on_real.score).mean() + relu(1 + round.on_fake.score).mean()

    def generator(self, round: Round) -> Tensor:
        return -round.on_fake.score.mean()

    def discriminator_probability(self, score: Tensor) -> Tensor:
        return score

    def decision_threshold(self, round: Round) -> float:
        return 0.0


class Wasserstein:
    """The dual of the Earth mover's distance. Arjovsky 2017, arXiv:1701.07875, eq. (2) and Algorithm 1.

    The critic must be kept 1-Lipschitz by a constraint (clipping) or a penalty. Its score has no zero, so "real" is
    what lies above the middle of the batch's two means.
    """

    def discriminator(self, round: Round) -> Tensor:
        return round.on_fake.score.mean() - round.on_real.score.mean()

    def generator(self, round: Round) -> Tensor:
        return -round.on_fake.score.mean()

    def discriminator_probability(self, score: Tensor) -> Tensor:
        return score

    def decision_threshold(self, round: Round) -> Tensor:
        return (round.on_real.score.mean() + round.on_fake.score.mean()) / 2


class Relativistic:
    """RpGAN: each real image is judged against one fake image. Jolicoeur-Martineau 2018, arXiv:1807.00734; in the form
    of Huang 2024 (R3GAN), arXiv:2501.05441, section 2.1. With R1 and R2 it converges locally (section 2.2).
    """

    def discriminator(self, round: Round) -> Tensor:
        return softplus(round.on_fake.score - round.on_real.score).mean()

    def generator(self, round: Round) -> Tensor:
        return softplus(round.on_real.score - round.on_fake.score).mean()

    def discriminator_probability(self, score: Tensor) -> Tensor:
        return score

    def decision_threshold(self, round: Round) -> Tensor:
        return (round.on_real.score.mean() + round.on_fake.score.mean()) / 2

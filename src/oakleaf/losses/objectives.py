"""Adversarial objectives: pairs of losses for discriminator and generator.

Scores are logits, larger means more real. Each method takes a `Round` and returns a scalar, the mean over images (and
over patches, for a PatchGAN).
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, softplus

from oakleaf.config.types import Fraction
from oakleaf.round import Round, require


class Objective(Protocol):
    """The losses of both players.

    Two methods are enough. Three more are optional. `discriminator_probability` and `decision_threshold` are used for
    logging, for ADA and for the encoder of a bidirectional GAN; functions of this module give their defaults:

    - `discriminator_probability(score) -> Tensor`: D(x) as a probability, if the objective defines one.
    - `decision_threshold(round) -> Tensor | float`: the score above which the discriminator decides for "real".
    - `prepare(images: int) -> None`: called before each training step, with the images seen.
    """

    def discriminator(self, round: Round) -> Tensor:
        """Return the discriminator's loss."""

    def generator(self, round: Round) -> Tensor:
        """Return the generator's loss."""


def discriminator_probability(objective: Any, score: Tensor) -> Tensor | None:
    """Return D(x) as a probability, or None if the objective defines none (hinge, Wasserstein, relativistic, ...)."""
    probability = getattr(objective, "discriminator_probability", None)
    return None if probability is None else probability(score)


def decision_threshold(objective: Any, round: Round) -> Tensor | float:
    """Return the score above which the discriminator decides for "real".

    An objective of score differences has no such value; the default is then the middle between the mean score of the
    real and of the fake images of the batch.
    """
    threshold = getattr(objective, "decision_threshold", None)
    if threshold is not None:
        return threshold(round)
    return (round.on_real.score.mean() + round.on_fake.score.mean()) / 2


class _Logistic:
    """Binary cross-entropy of real against fake images, with one-sided label smoothing.

    Args:
        smoothing: real targets are 1 - smoothing, fake targets stay 0 (Salimans 2016, arXiv:1606.03498, section 3.4).
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
    """The minimax game: G minimises E log(1 - D(G(z))).

    Its gradient vanishes as soon as D is certain (section 3 of the paper).

    Reference: Goodfellow 2014, arXiv:1406.2661, eq. (1).
    """

    def generator(self, round: Round) -> Tensor:
        return -softplus(round.on_fake.score).mean()


class NonSaturating(_Logistic):
    """The usual form: G maximises E log D(G(z)).

    Reference: Goodfellow 2014, arXiv:1406.2661, section 3.
    """

    def generator(self, round: Round) -> Tensor:
        return softplus(-round.on_fake.score).mean()


class Minimax(nn.Module):
    """The zero-sum form of another objective: G minimises minus the whole loss of D, the real images' part included.

    For a fixed D, the real part has no gradient for G. With an unrolled D (`optim.generator.unrolled`) it has one,
    because D's weights then depend on G; only with that part does the gradient through D's steps vanish where D is
    optimal.

    Args:
        of: the objective whose discriminator loss is used; the paper's f is minus that loss.

    Reference: Metz 2016, arXiv:1611.02163, eq. (7) and (10).
    """

    def __init__(self, of: Objective) -> None:
        super().__init__()
        self.of = of
        if (probability := getattr(of, "discriminator_probability", None)) is not None:
            self.discriminator_probability = probability

    def discriminator(self, round: Round) -> Tensor:
        return self.of.discriminator(round)

    def generator(self, round: Round) -> Tensor:
        return -self.of.discriminator(round)

    def decision_threshold(self, round: Round) -> Tensor | float:
        return decision_threshold(self.of, round)


class FeatureMatching(_Logistic):
    """G matches the mean features of D on real and fake images; D minimises the logistic loss.

    As in the authors' code, the distance |E f(x) - E f(G(z))|^2 is averaged over features, not summed.

    Args:
        distance: "squared" (the authors' code for MNIST) or "absolute" (for CIFAR-10 and SVHN).
        smoothing: one-sided label smoothing.

    Reference: Salimans 2016, arXiv:1606.03498, section 3.1.
    """

    def __init__(self, distance: Literal["squared", "absolute"] = "squared", smoothing: Fraction = 0.0) -> None:
        super().__init__(smoothing)
        self.distance = distance

    def generator(self, round: Round) -> Tensor:
        outputs = (round.on_real, round.on_fake)
        real, fake = (require(output.features, "features").float().mean(0) for output in outputs)
        difference = fake - real
        return difference.square().mean() if self.distance == "squared" else difference.abs().mean()


@dataclass
class LeastSquares:
    """LSGAN: D regresses the labels, G regresses the label that it wants D to give.

    (a, b, c) = (0, 1, 1) is eq. (9) of the paper; (-1, 1, 0) minimises the Pearson chi-squared divergence, eq. (8).

    Args:
        a: label of fake images.
        b: label of real images.
        c: label that G wants D to give to fake images.

    Reference: Mao 2016, arXiv:1611.04076, eq. (2).
    """

    a: float = 0.0
    b: float = 1.0
    c: float = 1.0

    def discriminator(self, round: Round) -> Tensor:
        real, fake = round.on_real.score, round.on_fake.score
        return 0.5 * (real - self.b).square().mean() + 0.5 * (fake - self.a).square().mean()

    def generator(self, round: Round) -> Tensor:
        return 0.5 * (round.on_fake.score - self.c).square().mean()

    def decision_threshold(self, round: Round) -> float:
        return (self.a + self.b) / 2


class Hinge:
    """The hinge loss for D, a linear loss for G.

    Reference: Lim & Ye 2017, arXiv:1705.02894; Miyato 2018, arXiv:1802.05957, eq. (16) and (17).
    """

    def discriminator(self, round: Round) -> Tensor:
        return relu(1 - round.on_real.score).mean() + relu(1 + round.on_fake.score).mean()

    def generator(self, round: Round) -> Tensor:
        return -round.on_fake.score.mean()

    def decision_threshold(self, round: Round) -> float:
        return 0.0


class RandomHinge(Hinge):
    """The hinge loss with a random margin of each score, drawn from U(1 - spread, 1), on both sides.

    Args:
        spread: largest reduction of the margin.

    Reference: code of Liu 2021 (FastGAN), arXiv:2101.04775.
    """

    def __init__(self, spread: Fraction = 0.2) -> None:
        self.spread = spread

    def discriminator(self, round: Round) -> Tensor:
        real, fake = round.on_real.score, round.on_fake.score
        above, below = (1 - self.spread * torch.rand_like(score) for score in (real, fake))
        return relu(above - real).mean() + relu(below + fake).mean()


class Wasserstein:
    """The dual form of the earth mover's distance.

    The critic must be kept 1-Lipschitz, by a constraint (weight clipping) or a penalty.

    Reference: Arjovsky 2017, arXiv:1701.07875, eq. (2) and Algorithm 1.
    """

    def discriminator(self, round: Round) -> Tensor:
        return round.on_fake.score.mean() - round.on_real.score.mean()

    def generator(self, round: Round) -> Tensor:
        return -round.on_fake.score.mean()


class Relativistic:
    """RpGAN: each real image is compared with one fake image.

    With R1 and R2 it converges locally (section 2.2 of R3GAN).

    Reference: Jolicoeur-Martineau 2018, arXiv:1807.00734; in the form of Huang 2024 (R3GAN), arXiv:2501.05441,
    section 2.1.
    """

    def discriminator(self, round: Round) -> Tensor:
        return softplus(round.on_fake.score - round.on_real.score).mean()

    def generator(self, round: Round) -> Tensor:
        return softplus(round.on_real.score - round.on_fake.score).mean()

"""A Term: any scalar that a player pays besides the adversarial loss."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize

from oakleaf.conditioning.priors import Codes
from oakleaf.config.types import PositiveInt
from oakleaf.errors import UserError
from oakleaf.round import CriticOutput, Round, Rows, require


class Term(ABC):
    """`weight * measure(round)`, paid on every `every`-th turn and then `every` times as heavy, so that its mean stays
    (lazy regularisation, Karras 2019, arXiv:1912.04958, section 3.1).

    of_single_images: it asks the critic about each image, so images can't be judged in packs.
    """

    of_single_images = False

    def __init__(self, weight: float = 1.0, every: PositiveInt = 1) -> None:
        self.weight, self.every = weight, every

    def __call__(self, round: Round) -> Tensor:
        return self.weight * self.every * self.measure(round)

    def prepare(self, round: Round) -> None:  # noqa: B027, most terms need nothing
        """Called before any verdict of the round is asked for."""

    @abstractmethod
    def measure(self, round: Round) -> Tensor:
        """The scalar, before its weight."""


class Classification(Term):
    """How badly D tells the classes of the images that it was shown, real ones or fakes: mean cross-entropy, in nats,
    over those with a label. Odena 2016 (ACGAN), arXiv:1610.09585, eq. (2).
    """

    of_single_images = True

    def __init__(self, real: bool = True, fake: bool = True, weight: float = 1.0, every: PositiveInt = 1) -> None:
        super().__init__(weight, every)
        self.real, self.fake = real, fake

    def measure(self, round: Round) -> Tensor:
        paid = [_misread(round.on_real, round.batch)] if self.real else []
        paid += [_misread(round.on_fake, round.fake_inputs)] if self.fake else []
        return torch.stack(paid).sum()


class Supervised(Term):
    """How badly D tells the classes of the batch's labelled images, which come besides the others where few are
    labelled (data.labelled): mean cross-entropy, in nats. Salimans 2016, arXiv:1606.03498, section 5, L_supervised.

    With score = logsumexp of the classes' logits and a (K+1)-th logit of 0 for "fake", the logistic loss is
    L_unsupervised.
    """

    of_single_images = True

    def measure(self, round: Round) -> Tensor:
        rows = round.batch
        if "labelled_image" in rows:
            return _misread(round.critic(rows["labelled_image"]), {"label": rows["labelled_label"]})
        if "label" not in rows:
            raise UserError("supervised learning needs labels, and the images of this data= have none")
        return _misread(round.on_real, {"label": rows["label"]})


def _misread(verdict: CriticOutput, rows: Rows) -> Tensor:
    classes = require(verdict.classes, "classes", "aux_classes")
    if "attributes" in rows:  # each true or not
        return binary_cross_entropy_with_logits(classes, rows["attributes"].to(classes.dtype))
    label = rows["label"]
    total = cross_entropy(classes, label, ignore_index=-1, reduction="sum")
    return total / (label >= 0).sum().clamp(min=1)


class MutualInformation(Term):
    """Minus the variational lower bound of I(c; G(z, c)), in nats and without H(c): what D's head Q, which sees the
    fake alone, misses of its code. Chen 2016 (InfoGAN), arXiv:1606.03657, eq. (5) and (6).

    Q(c | x) is a softmax for each category, and for each continuous number a Gaussian with its mean given by Q and sd
    1, as in the authors' code. categorical, continuous: the two weights lambda (appendix C.1). prior: of the game.
    """

    of_single_images = True

    def __init__(
        self,
        prior: Codes,
        categorical: float = 1.0,
        continuous: float = 1.0,
        weight: float = 1.0,
        every: PositiveInt = 1,
    ) -> None:
        super().__init__(weight, every)
        self.prior, self.categorical, self.continuous = prior, categorical, continuous

    def measure(self, round: Round) -> Tensor:
        said = require(round.on_fake.code, "code", "q_outputs")
        guesses, means = self.prior.parts(said)
        categories, numbers = self.prior.parts(self.prior.code(round.fake_inputs["latent"]))
        missed = [self.categorical * cross_entropy(q, c.argmax(1)) for q, c in zip(guesses, categories)]
        # -log N(c; mean, 1), without its constant log sqrt(2 pi)
        missed.append(self.continuous * 0.5 * (numbers - means).square().sum(1).mean())
        return torch.stack(missed).sum()


class PullAway(Term):
    """Mean squared cosine between D's features of two different fakes of the batch: 0 if they are orthogonal, 1 if they
    are the same. Zhao 2016 (EBGAN), arXiv:1609.03126, eq. (4).
    """

    def measure(self, round: Round) -> Tensor:
        features = normalize(require(round.on_fake.features, "features").float().flatten(1), dim=1)
        count = len(features)
        cosines = (features @ features.T).square()
        return (cosines.sum() - cosines.diagonal().sum()) / (count * (count - 1))

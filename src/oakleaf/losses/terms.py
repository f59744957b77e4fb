"""Terms: scalars that a player minimises besides the adversarial objective."""

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize

from oakleaf.conditioning.priors import Codes
from oakleaf.config.types import PositiveInt
from oakleaf.errors import UserError
from oakleaf.losses.stateful import Stateful
from oakleaf.round import CriticOutput, Round, Rows, require


class Term(Stateful):
    """One loss term: `weight * measure(round)`.

    Lazy regularisation: with `every = n` the term is computed in every n-th step of its player only, and is then n
    times as heavy, so that its mean over steps is the same (Karras 2019, arXiv:1912.04958, section 3.1). No correction
    of the learning rate is needed, because a lazy term shares the step of the other losses.

    A term is a module. Its buffers are in checkpoints, and `update_state` changes them after each step; its parameters
    are trained by the optimizer of the player that minimises the term. Besides images and scores, `measure` can read
    the players' networks (`round.networks`), frozen networks (`round.frozen`) and whatever the generator returned
    besides the image (`round.extras`).

    Args:
        weight: factor of the term.
        every: compute the term in every n-th step.

    Attributes:
        of_single_images: True if the term needs the discriminator's output for each single image, so that images
            cannot be judged in packs (PacGAN).

    Example:
        class Brightness(Term):
            def measure(self, round):
                return (round.fake.mean() - round.real.mean()).abs()
    """

    of_single_images = False

    def __init__(self, weight: float = 1.0, every: PositiveInt = 1) -> None:
        super().__init__()
        self.weight, self.every = weight, every

    def forward(self, round: Round) -> Tensor:
        """Return the weighted term of a round, a tensor []."""
        return self.weight * self.every * self.measure(round)

    def prepare(self, round: Round) -> None:
        """Request what the term needs from the critic's forward pass. Called before the critic runs."""

    @abstractmethod
    def measure(self, round: Round) -> Tensor:
        """Return the term before its weight, a tensor []."""


class Classification(Term):
    """Cross-entropy of D's auxiliary classifier, in nats, over the images that have a label.

    Args:
        real: include the real images.
        fake: include the fake images, with the labels that they were generated from.
        weight, every: as for `Term`.

    Reference: Odena 2016 (ACGAN), arXiv:1610.09585, eq. (2).
    """

    of_single_images = True

    def __init__(self, real: bool = True, fake: bool = True, weight: float = 1.0, every: PositiveInt = 1) -> None:
        super().__init__(weight, every)
        self.real, self.fake = real, fake

    def measure(self, round: Round) -> Tensor:
        losses = [_classification_loss(round.on_real, round.batch)] if self.real else []
        losses += [_classification_loss(round.on_fake, round.fake_inputs)] if self.fake else []
        return torch.stack(losses).sum()


class Supervised(Term):
    """Cross-entropy of D's classes on the labelled images, in nats: semi-supervised learning.

    With `data.labelled` set, each batch has additional labelled images (`labelled_image`), and the term uses these.
    With score = logsumexp of the class logits and a (K+1)-th logit of 0 for "fake", the logistic objective is the
    paper's L_unsupervised.

    Reference: Salimans 2016, arXiv:1606.03498, section 5, L_supervised.
    """

    of_single_images = True

    def measure(self, round: Round) -> Tensor:
        rows = round.batch
        if "labelled_image" in rows:
            return _classification_loss(round.critic(rows["labelled_image"]), {"label": rows["labelled_label"]})
        if "label" not in rows:
            raise UserError("supervised learning needs labels, and the images of this data= have none")
        return _classification_loss(round.on_real, {"label": rows["label"]})


def _classification_loss(output: CriticOutput, rows: Rows) -> Tensor:
    classes = require(output.classes, "classes", "aux_classes")
    if "attributes" in rows:  # several may be true
        return binary_cross_entropy_with_logits(classes, rows["attributes"].to(classes.dtype))
    label = rows["label"]
    total = cross_entropy(classes, label, ignore_index=-1, reduction="sum")
    return total / (label >= 0).sum().clamp(min=1)


class MutualInformation(Term):
    """Minus the variational lower bound of I(c; G(z, c)), in nats, without the constant H(c).

    D's head Q predicts the code of the fake images. Q(c | x) is a softmax for each category; for each continuous number
    it is a Gaussian whose mean Q predicts, with standard deviation 1 as in the authors' code.

    Args:
        prior: the prior of the game, which knows the layout of the code.
        categorical: lambda of the categories (appendix C.1).
        continuous: lambda of the continuous numbers.
        weight, every: as for `Term`.

    Reference: Chen 2016 (InfoGAN), arXiv:1606.03657, eq. (5) and (6).
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
        prediction = require(round.on_fake.code, "code", "q_outputs")
        logits, means = self.prior.parts(prediction)
        categories, numbers = self.prior.parts(self.prior.code(round.fake_inputs["latent"]))
        losses = [self.categorical * cross_entropy(q, c.argmax(1)) for q, c in zip(logits, categories)]
        # -log N(c; mean, 1), without its constant log sqrt(2 pi)
        losses.append(self.continuous * 0.5 * (numbers - means).square().sum(1).mean())
        return torch.stack(losses).sum()


class PullAway(Term):
    """Mean squared cosine between D's features of each two fakes of the batch: 0 if orthogonal, 1 if parallel.

    Reference: Zhao 2016 (EBGAN), arXiv:1609.03126, eq. (4).
    """

    def measure(self, round: Round) -> Tensor:
        features = normalize(require(round.on_fake.features, "features").float().flatten(1), dim=1)
        count = len(features)
        if count < 2:
            raise UserError("data.batch_size: the pull-away term compares images, so it needs at least two")
        cosines = (features @ features.T).square()
        return (cosines.sum() - cosines.diagonal().sum()) / (count * (count - 1))

"""What a recognition network learns: labels, attributes, identities, ages, or rotations."""

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, linear, normalize

from oakleaf.config.types import PositiveFloat, PositiveInt
from oakleaf.errors import UserError

Part = Literal["all", "even", "odd"]
"""The rows that a network is trained on: all, or those of even or odd number (identities: of such persons)."""

CLOSE_YEARS = 5  # an age counts as correct within so many years


class Task(ABC):
    """A training task on images: how a batch is made, its loss, and what counts as a correct prediction.

    Attributes:
        outputs: the number of logits.
        kind: a name for log messages, cache keys and protocols.
        rectified: whether the features, which the logits are computed from, go through a ReLU.
        settings: what else the trained weights depend on; part of cache keys.
    """

    outputs: int
    kind: str
    rectified = True
    settings: tuple[Any, ...] = ()

    @abstractmethod
    def make_batch(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Make the network's input and the target of a batch.

        Args:
            x: images [B, C, H, W] in [-1, 1].
            rows: the row indices of the images [B].

        Returns:
            The input [B, C, H, W] and the target [B] or [B, K].
        """

    def build_head(self, features: int) -> nn.Module:
        """Return the layer from features [B, features] to logits [B, outputs]."""
        return nn.Linear(features, self.outputs)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of logits [B, K]: cross-entropy, without rows whose target is -1."""
        return cross_entropy(logits, target, ignore_index=-1)

    def correct(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the share of correct predictions in a batch, a scalar tensor."""
        return (logits.argmax(1) == target).float().mean()

    def targets(self) -> Tensor | None:
        """Return the targets of all rows if they are data, or None if `make_batch` makes them; part of cache keys."""
        return None

    def rows(self, count: int) -> Tensor:
        """Return the indices of those of `count` rows that can be trained on."""
        return torch.arange(count)

    def groups(self, rows: Tensor) -> Tensor:
        """Return a number for each of these rows [M]; rows of one number stay together when the data are divided."""
        return rows

    def part(self, count: int, part: Part) -> Tensor:
        """Return those of `rows(count)` that belong to a part of the data."""
        rows = self.rows(count)
        return rows if part == "all" else rows[self.groups(rows) % 2 == ("even", "odd").index(part)]


class Labels(Task):
    """Predict one of K classes.

    Args:
        label: class of each row [N]; -1 where there is none.
        classes: the number of classes K, at least.
    """

    kind = "labels"

    def __init__(self, label: Tensor, classes: int) -> None:
        self.label, self.outputs = label, max(classes, int(label.max()) + 1)

    def targets(self) -> Tensor:
        return self.label

    def rows(self, count: int) -> Tensor:
        return torch.nonzero(self.label >= 0).flatten()

    def make_batch(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.label[rows].to(x.device)


def label_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Return the cross-entropy of logits [B, K] for classes [B], the mean over the rows whose class is not -1."""
    total = cross_entropy(logits, label, ignore_index=-1, reduction="sum")
    return total / (label >= 0).sum().clamp(min=1)


class Attributes(Task):
    """Predict K binary attributes.

    Args:
        attributes: [N, K], each 0 or 1.
    """

    kind = "attributes"

    def __init__(self, attributes: Tensor) -> None:
        self.attributes, self.outputs = attributes, attributes.shape[1]

    def targets(self) -> Tensor:
        return self.attributes

    def make_batch(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.attributes[rows].to(x.device).float()

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return attribute_loss(logits, target)

    def correct(self, logits: Tensor, target: Tensor) -> Tensor:
        return ((logits > 0) == (target > 0.5)).float().mean()


def attribute_loss(logits: Tensor, attributes: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of logits [B, K] for attributes [B, K] of 0 and 1."""
    return binary_cross_entropy_with_logits(logits, attributes.to(logits.dtype))


class Rotations(Task):
    """Predict by how many right angles an image was rotated, for images without labels or attributes.

    Args:
        size: (H, W); images that are not square are rotated by 0 or 180 degrees only.

    Reference: Gidaris 2018, arXiv:1803.07728, section 2.
    """

    kind = "rotations"

    def __init__(self, size: tuple[int, int]) -> None:
        self.right_angles = [0, 1, 2, 3] if size[0] == size[1] else [0, 2]
        self.outputs = len(self.right_angles)

    def make_batch(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        target = torch.arange(len(x), device=x.device) % self.outputs
        rotated = [image.rot90(self.right_angles[t], (1, 2)) for image, t in zip(x, target.tolist())]
        return torch.stack(rotated), target


class Identities(Task):
    """Recognise persons by a margin softmax, so that features of one person point in one direction.

    With theta the angle between an image's features and the weights of its person, the logit scale * cos(theta)
    becomes scale * cos(theta + margin) (arcface) or scale * (cos(theta) - margin) (cosface) in the training. Features
    are not rectified, since that would keep all angles below 90 degrees. Persons of a single image are left out.

    Args:
        identity: number of the person of each row [N], any integers; -1 where it is not known.
        margin: in radians (arcface), or of the cosine (cosface).
        scale: of the logits.
        kind_of_margin: arcface or cosface.

    Raises:
        UserError: fewer than two persons have two images or more.

    Reference: Deng 2018 (ArcFace), arXiv:1801.07698, eq. (3); Wang 2018 (CosFace), arXiv:1801.09414, eq. (4).
    """

    kind = "identities"
    rectified = False

    def __init__(
        self,
        identity: Tensor,
        margin: float = 0.35,
        scale: PositiveFloat = 30.0,
        kind_of_margin: Literal["arcface", "cosface"] = "cosface",
    ) -> None:
        self.margin, self.scale, self.kind_of_margin = margin, scale, kind_of_margin
        self.settings = (margin, scale, kind_of_margin)
        persons, index, counts = torch.unique(identity, return_inverse=True, return_counts=True)
        kept = (counts > 1) & (persons >= 0)
        self.outputs = int(kept.sum())
        if self.outputs < 2:
            raise UserError("recognising identities needs two images or more of at least two persons")
        number = torch.where(kept, kept.cumsum(0) - 1, -1)
        self.person = number[index]

    def targets(self) -> Tensor:
        return self.person

    def rows(self, count: int) -> Tensor:
        return torch.nonzero(self.person >= 0).flatten()

    def groups(self, rows: Tensor) -> Tensor:
        return self.person[rows]

    def make_batch(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.person[rows].to(x.device)

    def build_head(self, features: int) -> nn.Module:
        return Cosines(features, self.outputs)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the margin softmax loss, where the logits are cosines [B, persons]."""
        own = logits.gather(1, target[:, None])
        penalised = own - self.margin if self.kind_of_margin == "cosface" else arcface_cosine(own, self.margin)
        return cross_entropy(self.scale * logits.scatter(1, target[:, None], penalised), target)


def arcface_cosine(cosine: Tensor, margin: float) -> Tensor:
    """Return cos(theta + margin) of cos(theta); where theta + margin exceeds pi, its continuation by a straight line.

    Beyond pi the cosine would rise again; the line cos(theta) - margin * sin(margin) keeps it falling, as in the
    authors' code.
    """
    cosine = cosine.clamp(-1 + 1e-6, 1 - 1e-6)
    shifted = torch.cos(torch.arccos(cosine) + margin)
    limit = torch.cos(torch.tensor(torch.pi - margin)).item()
    return torch.where(cosine > limit, shifted, cosine - margin * torch.sin(torch.tensor(margin)).item())


class Cosines(nn.Module):
    """The cosines between features and one vector for each class.

    Args:
        features: the length of the features.
        classes: the number of classes.
    """

    def __init__(self, features: PositiveInt, classes: PositiveInt) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, features))

    def forward(self, x: Tensor) -> Tensor:
        """Return cosines [B, classes] of features [B, features]."""
        return linear(normalize(x, dim=1), normalize(self.weight, dim=1))


class Ages(Task):
    """Predict an age in years by ordinal regression: the k-th logit is that of "older than k years".

    The expected age is the sum of the probabilities, since age = sum over k of [age > k].

    Args:
        age: in whole years of each row [N]; -1 where it is not known.
        oldest: ages above count as this.

    Reference: Niu 2016, CVPR, section 3; Cao 2019, arXiv:1901.07884, section 3.1.
    """

    kind = "ages"

    def __init__(self, age: Tensor, oldest: PositiveInt = 100) -> None:
        self.age, self.outputs = age, oldest

    def targets(self) -> Tensor:
        return self.age

    def rows(self, count: int) -> Tensor:
        return torch.nonzero(self.age >= 0).flatten()

    def make_batch(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.age[rows].to(x.device)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return age_loss(logits, target)

    def correct(self, logits: Tensor, target: Tensor) -> Tensor:
        return ((expected_age(logits) - target).abs() <= CLOSE_YEARS).float().mean()


def age_loss(logits: Tensor, age: Tensor) -> Tensor:
    """Return the mean over images of the binary cross-entropies, summed over the thresholds and divided by ten.

    Args:
        logits: [B, K] of "older than k years", k = 0 ... K - 1.
        age: in years [B]; -1 where it is not known.
    """
    known = age >= 0
    older = (age[:, None] > torch.arange(logits.shape[1], device=logits.device)).to(logits.dtype)
    each = binary_cross_entropy_with_logits(logits, older, reduction="none").sum(1) / 10
    return (each * known).sum() / known.sum().clamp(min=1)


def expected_age(logits: Tensor) -> Tensor:
    """Return the expected age in years [B] of logits [B, K] of "older than k years"."""
    return logits.sigmoid().sum(1)


LOSSES: dict[str, Any] = {  # by the task of `Trained`: the loss of logits for the condition of the same meaning
    "label": label_loss,
    "attributes": attribute_loss,
    "age": age_loss,
}

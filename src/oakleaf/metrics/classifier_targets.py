"""Training targets of the small classifier: labels, attributes, or rotations."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy


class Task(ABC):
    """A training task on images: how a batch is made, its loss, and what counts as a correct prediction.

    Attributes:
        outputs: the number of logits.
        kind: a name for log messages, cache keys and protocols.
    """

    outputs: int
    kind: str

    @abstractmethod
    def make_batch(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Make the network's input and the target of a batch.

        Args:
            x: images [B, C, H, W] in [-1, 1].
            rows: the row indices of the images [B].

        Returns:
            The input [B, C, H, W] and the target [B] or [B, K].
        """

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
        return binary_cross_entropy_with_logits(logits, target)

    def correct(self, logits: Tensor, target: Tensor) -> Tensor:
        return ((logits > 0) == (target > 0.5)).float().mean()


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

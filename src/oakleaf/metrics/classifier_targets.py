"""What a classifier of ours learns: labels, attributes, or how an image was turned."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy


class Task(ABC):
    """What is learned from images, told by their rows."""

    outputs: int
    kind: str

    @abstractmethod
    def pose(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What is shown, and the answer."""

    def loss(self, logits: Tensor, answer: Tensor) -> Tensor:
        return cross_entropy(logits, answer, ignore_index=-1)

    def right(self, logits: Tensor, answer: Tensor) -> Tensor:
        """Share of right answers."""
        return (logits.argmax(1) == answer).float().mean()

    def known(self) -> Tensor | None:
        """The answers, where they are given: what is learned depends on them as on the images."""
        return None

    def rows(self, count: int) -> Tensor:
        """Those of so many images that there is something to learn from."""
        return torch.arange(count)


class Labels(Task):
    """One of K classes."""

    kind = "labels"

    def __init__(self, label: Tensor, classes: int) -> None:
        self.label, self.outputs = label, max(classes, int(label.max()) + 1)

    def known(self) -> Tensor:
        return self.label

    def rows(self, count: int) -> Tensor:
        return torch.nonzero(self.label >= 0).flatten()

    def pose(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.label[rows].to(x.device)


class Attributes(Task):
    """Any of K attributes, 0 or 1 each."""

    kind = "attributes"

    def __init__(self, attributes: Tensor) -> None:
        self.attributes, self.outputs = attributes, attributes.shape[1]

    def known(self) -> Tensor:
        return self.attributes

    def pose(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.attributes[rows].to(x.device).float()

    def loss(self, logits: Tensor, answer: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(logits, answer)

    def right(self, logits: Tensor, answer: Tensor) -> Tensor:
        return ((logits > 0) == (answer > 0.5)).float().mean()


class Rotations(Task):
    """By how many right angles an image was turned, for images without labels. Gidaris 2018, arXiv:1803.07728, section
    2. Images that are no squares are turned by 0 or 2."""

    kind = "rotations"

    def __init__(self, size: tuple[int, int]) -> None:
        self.iterations = [0, 1, 2, 3] if size[0] == size[1] else [0, 2]
        self.outputs = len(self.iterations)

    def pose(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        answer = torch.arange(len(x), device=x.device) % self.outputs
        turned = torch.stack([image.rot90(self.iterations[a], (1, 2)) for image, a in zip(x, answer.tolist())])
        return turned, answer

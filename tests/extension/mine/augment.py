"""An augmentation between images and critics."""

import torch
from torch import Tensor

from oakleaf.augment import Augmentation
from oakleaf.config.types import NonNegativeFloat


class RandomBrightness(Augmentation):
    """Change the brightness of every image that a critic sees, real or generated, by a random amount.

    Args:
        strength: largest change, where images are in [-1, 1].

    Reference: Zhao 2020, arXiv:2006.10738, section 3.
    """

    def __init__(self, strength: NonNegativeFloat = 0.5) -> None:
        super().__init__()
        self.strength = strength

    def augment(self, images: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return images + self.strength * (2 * torch.rand_like(images[:, :1, :1, :1]) - 1), condition

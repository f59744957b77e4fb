"""Instance noise."""

import torch
from torch import Tensor

from oakleaf.augment.augmentation import Augmentation
from oakleaf.config.types import NonNegativeFloat, PositiveFloat, PositiveInt


class Noise(Augmentation):
    """Gaussian noise on every image that a critic sees, so that the supports of the two densities overlap.

    Args:
        sd: standard deviation at the beginning, in units of the images' range [-1, 1].
        images: images seen until the noise has fallen to 0; None for constant noise.
        power: shape of the decay: 1 is linear; larger values decay faster first and slower towards the end.

    Reference: Sonderby 2016, arXiv:1610.04490, section 3; Arjovsky & Bottou 2017, arXiv:1701.04862.
    """

    needs_images = False
    now: Tensor  # [], the standard deviation in this iteration

    def __init__(self, sd: NonNegativeFloat, images: PositiveInt | None = None, power: PositiveFloat = 1.0) -> None:
        super().__init__()
        self.sd, self.images, self.power, self.active = sd, images, power, sd > 0
        self.register_buffer("now", torch.tensor(float(sd)), persistent=False)

    def sd_at(self, images: int) -> float:
        """Return the standard deviation after `images` images."""
        return self.sd if self.images is None else self.sd * max(0.0, 1 - images / self.images) ** self.power

    def prepare(self, images: int) -> None:
        sd = self.sd_at(images)
        self.now.fill_(sd)
        self.active = sd > 0

    def augment(self, images: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if not self.active:
            return images, condition
        return images + self.now.to(images.dtype) * torch.randn_like(images), condition

"""A module of one's own in place of `oakleaf.gan.GAN`."""

from typing import Any

from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from oakleaf.config.types import PositiveInt
from oakleaf.gan import GAN


class WithContrast(GAN):
    """A GAN that also logs the contrast of its real images every few iterations.

    Args:
        contrast_every: iterations between two values.
        kwargs: as for `GAN`; the builder gives them.
    """

    def __init__(self, contrast_every: PositiveInt = 5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.contrast_every = contrast_every

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> STEP_OUTPUT:
        result = super().training_step(batch, batch_index)
        if self.iteration % self.contrast_every == 0:
            self.log_scalar("contrast/real", batch["image"].std())
        return result

"""StackGAN: a generator that starts from the image of a frozen first stage."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from oakleaf.conditioning.condition import Condition
from oakleaf.conditioning.priors import Prior
from oakleaf.config.types import PositiveInt
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.errors import UserError
from oakleaf.frozen import Run
from oakleaf.games.matching import Matching
from oakleaf.losses.loss import Loss
from oakleaf.losses.terms import Term
from oakleaf.round import GeneratorOutput, generator_output


class StackGAN(Matching):
    """Stage II of StackGAN: G(z, y, G_1(z, y)) with a frozen first stage G_1, the frozen network `stage1`.

    Args:
        generator: z, y and the first stage's image to images.
        discriminator, prior, condition, loss, terms, packing, mismatched, interpolated: as for `Matching`.

    Reference: Zhang 2016, arXiv:1612.03242, section 3.4.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        prior: Prior,
        condition: Condition,
        loss: Loss,
        terms: Mapping[str, Mapping[str, Term]] | None = None,
        packing: PositiveInt = 1,
        mismatched: bool = True,
        interpolated: bool = False,
    ) -> None:
        super().__init__(generator, discriminator, prior, condition, loss, terms, packing, mismatched, interpolated)

    @property
    def stage1(self) -> Run:
        """The generator of stage I.

        Raises:
            UserError: the model has no such frozen network.
        """
        if "stage1" not in self.frozen:
            raise UserError("model.frozen.stage1 is missing: stage II starts from the run of a stage I")
        first: Run = self.frozen["stage1"]
        return first

    def generate_from(self, z: Tensor, y: Tensor, **options: Tensor) -> GeneratorOutput:
        return generator_output(self.generator(z, y, self.first_image(z, y), **options))

    @torch.no_grad()
    def first_image(self, z: Tensor, y: Tensor) -> Tensor:
        """Generate the images of stage I [B, C, h, w] from its part of the latents z [B, d], the first numbers."""
        first = self.stage1
        return first.generate(z[:, : first.network.latent], y)

    def initialize_frozen(self, data: ImageDataModule) -> None:
        """Read the weights of stage I.

        Raises:
            UserError: the run was trained with other words than those of the data.
        """
        super().initialize_frozen(data)
        if self.stage1.classes != list(data.classes):
            raise UserError(f"{self.stage1.source}: it was trained with other words than these data")

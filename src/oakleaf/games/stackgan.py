"""StackGAN: a generator that starts from the image of a frozen first stage."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from oakleaf.conditioning.condition import Condition
from oakleaf.conditioning.priors import Prior
from oakleaf.config.types import PositiveInt
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.errors import UserError, one_line
from oakleaf.games.matching import Matching
from oakleaf.losses.loss import Loss
from oakleaf.losses.terms import Term
from oakleaf.networks.stackgan import FrozenStage
from oakleaf.round import GeneratorOutput, generator_output


class StackGAN(Matching):
    """Stage II of StackGAN: G(z, y, G_1(z, y)) with a frozen first stage G_1.

    Args:
        generator: z, y and the first stage's image to images.
        discriminator, prior, condition, loss, terms, packing, mismatched, interpolated: as for `Matching`.
        stage1: the frozen generator of stage I, and the run that its weights are read from.

    Attributes:
        load_run: loads a run's module by path; the builder sets it, so that games do not import the builder.

    Reference: Zhang 2016, arXiv:1612.03242, section 3.4.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        stage1: FrozenStage,
        prior: Prior,
        condition: Condition,
        loss: Loss,
        terms: Mapping[str, Mapping[str, Term]] | None = None,
        packing: PositiveInt = 1,
        mismatched: bool = True,
        interpolated: bool = False,
    ) -> None:
        super().__init__(generator, discriminator, prior, condition, loss, terms, packing, mismatched, interpolated)
        self.stage1 = stage1
        self.load_run: Callable[[str], Any] | None = None

    def generate_from(self, z: Tensor, y: Tensor) -> GeneratorOutput:
        return generator_output(self.generator(z, y, self.stage1(z, y)))

    def initialize_from_data(self, data: ImageDataModule) -> None:
        """Read the weights of stage I, the EMA generator where there is one.

        Raises:
            UserError: no run is named, or its networks or words are not those of this game.
        """
        super().initialize_from_data(data)
        if self.stage1.run is None or self.load_run is None:
            raise UserError("model.game.stage1.run= is missing: name a run of stage I (experiment=stackgan_emoji_1)")
        module = self.load_run(self.stage1.run)
        words = [getattr(game.condition, "words", None) for game in (module.game, self)]
        if words[0] != words[1]:
            raise UserError(f"model.game.stage1.run={self.stage1.run}: it was trained with other words than these data")
        first = module.generator_ema.network if module.generator_ema else module.network("generator")
        try:
            self.stage1.network.load_state_dict(first.state_dict())
        except RuntimeError as error:
            reason = one_line(error)
            raise UserError(f"model.game.stage1.network is not that of {self.stage1.run} ({reason} ...)") from error

"""Stages: a generator that begins from the image of one that was trained before."""

from collections.abc import Mapping

from torch import Tensor, nn

from oakleaf.conditioning.condition import Condition
from oakleaf.conditioning.priors import Prior
from oakleaf.config.types import PositiveInt
from oakleaf.errors import UserError, one_line
from oakleaf.games.matching import Matching
from oakleaf.losses.loss import Loss
from oakleaf.losses.terms import Term
from oakleaf.networks.stackgan import FrozenStage


class StackGAN(Matching):
    """G(z, y, G_1(z, y)), of which the first stage G_1 is frozen. Zhang 2016, arXiv:1612.03242, section 3.4."""

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

    def run_generator(self, z: Tensor, y: Tensor) -> Tensor:
        return self.generator(z, y, self.stage1(z, y))

    def initialize_from_data(self, rows: Mapping[str, Tensor]) -> None:
        """Read stage I, the average of its generator where there is one.

        Raises:
            UserError: no run is named, or one of other networks or words.
        """
        from oakleaf.builder.recipe import load  # which builds games

        super().initialize_from_data(rows)
        if self.stage1.run is None:
            raise UserError("model.game.stage1.run= is missing: a run of stage I, of experiment=stackgan_emoji_1 say")
        module = load(self.stage1.run)
        words = [getattr(game.condition, "words", None) for game in (module.game, self)]
        if words[0] != words[1]:
            raise UserError(f"model.game.stage1.run={self.stage1.run}: it was told other words than these data have")
        first = module.generator_ema.network if module.generator_ema else module.network("generator")
        try:
            self.stage1.network.load_state_dict(first.state_dict())
        except RuntimeError as error:
            reason = one_line(error)
            raise UserError(f"model.game.stage1.network is not that of {self.stage1.run} ({reason} ...)") from error

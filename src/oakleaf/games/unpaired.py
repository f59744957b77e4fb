"""Translation between two domains of which no pairs are known."""

from collections.abc import Mapping

import torch
from torch import Tensor

from oakleaf.conditioning.condition import Condition
from oakleaf.config.types import NonNegativeInt, PositiveInt
from oakleaf.errors import UserError
from oakleaf.games.game import Batch, Game
from oakleaf.games.image_pool import ImagePool
from oakleaf.losses.loss import Loss
from oakleaf.losses.terms import Term
from oakleaf.networks.cyclegan import Critics, Translators
from oakleaf.networks.layers import Size, height_width
from oakleaf.round import CycleRound, Round


class Unpaired(Game):
    """Two translators, from inputs to images and back, each with a critic of its own: two Rounds. Zhu 2017 (CycleGAN),
    arXiv:1703.10593, eq. (1) and (3); what ties them together are terms, `Cycle` and `Identity`. A player's losses are
    means over both rounds, half of the paper's sums, so all weights are in proportion.

    channels, inputs, size: of images and inputs. pool: of how many past fakes each critic keeps a history (section 4),
    0 for none; it sees them in its own turn.
    """

    def __init__(
        self,
        generator: Translators,
        discriminator: Critics,
        condition: Condition,
        channels: PositiveInt,
        inputs: PositiveInt,
        size: Size,
        loss: Loss,
        terms: Mapping[str, Mapping[str, Term]] | None = None,
        pool: NonNegativeInt = 50,
    ) -> None:
        super().__init__(loss, terms, condition)
        self.generator, self.discriminator = generator, discriminator
        self.pools = torch.nn.ModuleList(
            [ImagePool(pool, (count, *height_width(size))) for count in (channels, inputs)]
        )

    def play(self, batch: Batch) -> list[Round]:
        if "input" not in batch:
            raise UserError(
                "an unpaired translator needs inputs, and these data have none: data=unpaired, data=facades"
            )
        x, y = batch["input"], batch["image"]
        to_image, to_input = self.generator.to_image, self.generator.to_input
        return [
            CycleRound(y, x, to_image, to_input, self.discriminator.of_images),
            CycleRound(x, y, to_input, to_image, self.discriminator.of_inputs),
        ]

    def rounds_for(self, player: str, rounds: list[Round]) -> list[Round]:
        if player != "discriminator":
            return rounds
        return [Round(round.real, pool(round.fake), round.critic) for round, pool in zip(rounds, self.pools)]

    def generate(self, batch: Batch) -> Tensor:
        return self.generator.to_image(batch["input"])

    def sample_inputs(self, count: int, device: torch.device | str = "cpu") -> Batch:
        assert self.condition is not None
        return {self.condition.key: self.condition.sample(count).to(device)}

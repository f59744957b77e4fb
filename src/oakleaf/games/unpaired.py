"""Translation between two domains without paired examples."""

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
from oakleaf.round import CycleRound, Round, generator_output


class Unpaired(Game):
    """CycleGAN: two generators, from inputs to images and back, each with its own discriminator.

    A batch gives two rounds, one for each direction. The terms `Cycle` and `Identity` connect them. A player's losses
    are means over both rounds, half of the paper's sums, so all weights keep their proportions.

    Args:
        generator: both generators.
        discriminator: both discriminators.
        condition: the input images.
        channels: channels of the images.
        inputs: channels of the inputs.
        size: height and width of both.
        loss, terms: as for `Game`.
        pool: past fakes that each discriminator's `ImagePool` keeps (section 4 of the paper); 0 for none.

    Reference: Zhu 2017, arXiv:1703.10593, eq. (1) and (3).
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

    def networks_of(self, critic: str, count: int) -> list[torch.nn.Module]:
        """Return the network of a further critic for each direction; it is built as the game's own."""
        network = self.get_submodule(critic)
        if not isinstance(network, Critics):
            raise UserError(
                f"model.critics.{critic}: this game needs a critic with two networks (networks.cyclegan.Critics)"
            )
        return [network.of_images, network.of_inputs]

    def play(self, batch: Batch) -> list[Round]:
        if "input" not in batch:
            raise UserError("model=cyclegan needs input images, and these data have none: data=unpaired, data=facades")
        x, y = batch["input"], batch["image"]
        to_image, to_input = self.generator.to_image, self.generator.to_input
        return [
            CycleRound(y, x, to_image, to_input, self.discriminator.of_images),
            CycleRound(x, y, to_input, to_image, self.discriminator.of_inputs),
        ]

    def rounds_for(self, player: str, rounds: list[Round]) -> list[Round]:
        """Replace some fakes by older ones for a critic."""
        if self.roles[player] != "critic":
            return rounds
        return [Round(round.real, pool(round.fake), round.critic) for round, pool in zip(rounds, self.pools)]

    def generate(self, batch: Batch) -> Tensor:
        return generator_output(self.generator.to_image(batch["input"])).image

    def sample_inputs(self, count: int, device: torch.device | str = "cpu") -> Batch:
        assert self.condition is not None
        return {self.condition.key: self.condition.sample(count).to(device)}

"""Translation between two domains of which no pairs are known."""

from collections.abc import Mapping

import torch
from torch import Tensor

from oakleaf.conditioning.condition import Condition
from oakleaf.config.types import Count, Natural
from oakleaf.errors import Mistake
from oakleaf.games.game import Batch, Game
from oakleaf.games.image_pool import Pool
from oakleaf.losses.loss import Loss
from oakleaf.losses.terms import Term
from oakleaf.networks.cyclegan import Critics, Translators
from oakleaf.networks.layers import Size, height_width
from oakleaf.round import Round, Voyage


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
        channels: Count,
        inputs: Count,
        size: Size,
        loss: Loss,
        terms: Mapping[str, Mapping[str, Term]] | None = None,
        pool: Natural = 50,
    ) -> None:
        super().__init__(loss, terms, condition)
        self.generator, self.discriminator = generator, discriminator
        self.pools = torch.nn.ModuleList([Pool(pool, (count, *height_width(size))) for count in (channels, inputs)])

    def play(self, batch: Batch) -> list[Round]:
        if "input" not in batch:
            raise Mistake("an unpaired translator needs inputs, and these data have none: data=unpaired, data=facades")
        x, y = batch["input"], batch["image"]
        there, back = self.generator.there, self.generator.back
        return [
            Voyage(y, x, there, back, self.discriminator.there),
            Voyage(x, y, back, there, self.discriminator.back),
        ]

    def faced(self, player: str, rounds: list[Round]) -> list[Round]:
        if player != "discriminator":
            return rounds
        return [Round(round.real, pool(round.fake), round.critic) for round, pool in zip(rounds, self.pools)]

    def generate(self, batch: Batch) -> Tensor:
        return self.generator.there(batch["input"])

    def request(self, count: int, device: torch.device | str = "cpu") -> Batch:
        assert self.condition is not None
        return {self.condition.key: self.condition.request(count).to(device)}

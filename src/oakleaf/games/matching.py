"""Matching: images that have to fit what was asked for, a text say."""

from collections.abc import Mapping

from torch import Tensor, nn

from oakleaf.conditioning.condition import Condition
from oakleaf.conditioning.priors import Prior
from oakleaf.config.types import PositiveInt
from oakleaf.errors import UserError
from oakleaf.games.game import Batch, Scalars
from oakleaf.games.generation import Generation
from oakleaf.losses.loss import Loss
from oakleaf.losses.terms import Term
from oakleaf.round import ConditionalRound, MismatchedRound, Round


class Matching(Generation):
    """A conditional game with further rounds. Reed 2016, arXiv:1605.05396, section 4. A player's losses are means over
    its rounds; so D's part for real images counts as much as those for fakes and for mismatches together.

    mismatched: D meets real images with others' texts as a second kind of fakes (GAN-CLS, Algorithm 1). interpolated: G
    is asked for half as many images besides, each for the mean of two texts (GAN-INT, eq. (5), beta = 1/2); there are
    no real images of these, so D never sees them in its own turn.
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
        interpolated: bool = True,
    ) -> None:
        super().__init__(generator, discriminator, prior, loss, terms, condition, packing)
        self.mismatched, self.interpolated = mismatched, interpolated

    def generate(self, batch: Batch) -> Tensor:
        return self.run_generator(batch["latent"], *self.encode_condition(batch))

    def run_generator(self, z: Tensor, y: Tensor) -> Tensor:
        """Images for latents z [B, d] and what is told, y [B, width]."""
        return self.generator(z, y)

    def play(self, batch: Batch) -> list[Round]:
        inputs = self.fake_inputs(batch)
        return [self.round(batch, inputs, *self.encode_condition(inputs))]

    def round(self, batch: Batch, inputs: Batch, y: Tensor) -> ConditionalRound:
        """Fakes that the generator is told y of, judged by y."""
        fake = self.run_generator(inputs["latent"], y)
        real, critic = self.packed(batch["image"]), self.bind_condition(y, self.discriminator)
        return ConditionalRound(real, self.packed(fake), critic, self.generator, y, batch, inputs)

    def rounds_for(self, player: str, rounds: list[Round]) -> list[Round]:
        if player == "discriminator" and self.mismatched:
            if any(len(round.real) < 2 for round in rounds):
                raise UserError("data.batch_size: two at least, since each image meets the text of another")
            return [*rounds, *map(MismatchedRound, rounds)]
        if player == "generator" and self.interpolated:
            return [*rounds, *(more for round in rounds for more in self.between(round))]
        return rounds

    def between(self, round: Round) -> list[ConditionalRound]:
        """A round of fakes between the first half's texts and the second's; none if they fill no pack."""
        assert isinstance(round, ConditionalRound)
        half = len(round.y) // 2
        if half < self.packing:
            return []
        y = (round.y[:half] + round.y[half : 2 * half]) / 2
        batch = {name: rows[:half] for name, rows in round.batch.items()}
        return [self.round(batch, self.latents(half, y.device), y)]

    def diagnostics(self, rounds: list[Round]) -> Scalars:
        """Besides, how the critic sees real images with others' texts."""
        wrong: list[Round] = [round for round in rounds if isinstance(round, MismatchedRound)]
        seen = super().diagnostics([round for round in rounds if not isinstance(round, MismatchedRound)])
        if wrong:
            other = super().diagnostics(wrong)
            seen |= {"D(mismatch)": other["D(G(z))"], "accuracy_mismatch": other["accuracy_fake"]}
        return seen

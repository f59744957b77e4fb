"""Generation conditioned on texts: the image must be realistic and must match the text."""

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
from oakleaf.round import ConditionalRound, GeneratorOutput, MismatchedRound, Round, generator_output


class Matching(Generation):
    """A conditional game with additional rounds (GAN-INT-CLS).

    A player's losses are means over its rounds. So D's loss for real images counts as much as its losses for fakes and
    for mismatched pairs together.

    Args:
        generator, discriminator, prior, condition, loss, terms, packing: as for `Generation`.
        mismatched: train D also on real images with wrong texts as a second kind of fakes (GAN-CLS, Algorithm 1).
        interpolated: train G also on the mean of two texts (GAN-INT, eq. (5) with beta = 1/2), half as many images as
            in the batch. There are no real images for such texts, so D is not trained on them.

    Reference: Reed 2016, arXiv:1605.05396, section 4.
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

    def run_generator(self, batch: Batch) -> GeneratorOutput:
        return self.generate_from(batch["latent"], *self.encode_condition(batch), **self.options(batch))

    def generate_from(self, z: Tensor, y: Tensor, **options: Tensor) -> GeneratorOutput:
        """Generate images for latents z [B, d] and the encoded condition y [B, width]; see `Generation.options`."""
        return generator_output(self.generator(z, y, **options))

    def play(self, batch: Batch) -> list[Round]:
        inputs = self.fake_inputs(batch)
        return [self.conditional_round(batch, inputs, *self.encode_condition(inputs))]

    def conditional_round(self, batch: Batch, inputs: Batch, y: Tensor) -> ConditionalRound:
        """Return a round whose fakes are generated from y [B, width] and scored with y."""
        fake, extras = self.generate_from(inputs["latent"], y)
        real, critic = self.packed(batch["image"]), self.bind_condition(y, self.discriminator)
        round = ConditionalRound(real, self.packed(fake), critic, self.generator, y, batch, inputs, extras)
        round.generate = lambda rows: self.generate_from(rows["latent"], y).image  # y may be of no row of the data
        return round

    def rounds_for(self, player: str, rounds: list[Round]) -> list[Round]:
        """Add mismatched rounds for a critic and interpolated rounds for the generator."""
        if self.roles[player] == "critic" and self.mismatched:
            if any(len(round.real) < 2 for round in rounds):
                raise UserError("data.batch_size: at least 2, since each image is also paired with another one's text")
            return [*rounds, *map(MismatchedRound, rounds)]
        if self.roles[player] == "generator" and self.interpolated:
            return [*rounds, *(more for round in rounds for more in self.interpolated_rounds(round))]
        return rounds

    def interpolated_rounds(self, round: Round) -> list[ConditionalRound]:
        """Return a round with the means of the first and the second half's conditions; none if it fills no pack."""
        assert isinstance(round, ConditionalRound)
        half = len(round.y) // 2
        if half < self.packing:
            return []
        y = (round.y[:half] + round.y[half : 2 * half]) / 2
        batch = {name: rows[:half] for name, rows in round.batch.items()}
        return [self.conditional_round(batch, self.latents(half, y.device), y)]

    def diagnostics(self, rounds: list[Round], player: str) -> Scalars:
        """Return `Game.diagnostics`, and the same numbers of mismatched pairs under their own names."""
        mismatched: list[Round] = [round for round in rounds if isinstance(round, MismatchedRound)]
        found = super().diagnostics([round for round in rounds if not isinstance(round, MismatchedRound)], player)
        if mismatched:
            other = super().diagnostics(mismatched, player)
            for fake, name in {"D(G(z))": "D(mismatched)", "score/fake": "score/mismatched"}.items():
                if fake in other:
                    found[name] = other[fake]
            found["accuracy/mismatched"] = other["accuracy/fake"]
        return found

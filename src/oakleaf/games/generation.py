"""Generation of images from latents, and from a condition where there is one."""

from collections.abc import Mapping
from inspect import signature

import torch
from torch import Tensor, nn

from oakleaf.conditioning.condition import Condition
from oakleaf.conditioning.priors import Prior
from oakleaf.config.types import PositiveInt
from oakleaf.errors import UserError
from oakleaf.games.game import Batch, Game
from oakleaf.losses.loss import Loss
from oakleaf.losses.terms import Term
from oakleaf.round import BoundCritic, GeneratorOutput, Round, generator_output


class Generation(Game):
    """The GAN of Goodfellow 2014, arXiv:1406.2661: G maps latents to images, D scores real and fake images.

    With a condition, both networks get the encoded condition y as well, G(z, y) and D(x, y); the fakes of a batch have
    the conditions of its real images (Mirza 2014, arXiv:1411.1784, eq. (2)).

    Args:
        generator: z [B, d], and y, to images [B, C, H, W] in [-1, 1], or to a `GeneratorOutput`.
        discriminator: images, and y, to a `CriticOutput` or a tensor of scores.
        prior: distribution of the latents; None where the condition alone is mapped to images, G(y), as in translation
            (Isola 2016, arXiv:1611.07004, section 3).
        loss, terms, condition: as for `Game`.
        packing: number of images that D judges together, as channels of one input (PacGAN: Lin 2017, arXiv:1712.04086,
            section 2). A batch of B images makes B / packing packs; in the paper's code a batch is B packs.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        prior: Prior | None,
        loss: Loss,
        terms: Mapping[str, Mapping[str, Term]] | None = None,
        condition: Condition | None = None,
        packing: PositiveInt = 1,
    ) -> None:
        super().__init__(loss, terms, condition)
        self.generator, self.discriminator, self.prior, self.packing = generator, discriminator, prior, packing
        own = (terms or {}).values()
        single = [name for named in own for name, term in named.items() if term.of_single_images]
        if packing > 1 and single:
            raise UserError(f"model.game.packing={packing}: the term {single[0]} needs D's output for single images")

    def play(self, batch: Batch) -> list[Round]:
        real, inputs = batch["image"], self.fake_inputs(batch)
        fake, extras = self.run_generator(inputs)
        critic = self.conditioned_critic(inputs, self.discriminator)
        return [Round(self.packed(real), self.packed(fake), critic, batch, inputs, extras)]

    def fake_inputs(self, batch: Batch) -> Batch:
        """Return the inputs of a batch's fakes: fresh latents, and the conditions of the real images."""
        inputs = self.latents(len(batch["image"]), batch["image"].device)
        if self.condition:
            inputs[self.condition.key] = batch[self.condition.key]
        return inputs

    def generate(self, batch: Batch) -> Tensor:
        return self.run_generator(batch).image

    def run_generator(self, batch: Batch) -> GeneratorOutput:
        """Run the generator on the inputs of a batch; the image and what it returns besides."""
        latent = (batch["latent"],) if self.prior else ()
        return generator_output(self.generator(*latent, *self.encode_condition(batch), **self.options(batch)))

    def options(self, batch: Batch) -> Batch:
        """Return the rows beside latents and condition that the generator's `forward` names, such as `truncation`."""
        known = {"latent", self.condition.key} if self.condition else {"latent"}
        if batch.keys() <= known:  # always in training
            return {}
        return {name: values for name, values in batch.items() if name not in known and self.takes_option(name)}

    def takes_option(self, name: str) -> bool:
        parameters = list(signature(self.generator.forward).parameters)
        return name in parameters[(self.prior is not None) + (self.condition is not None) :]

    def sample_inputs(self, count: int, device: torch.device | str = "cpu") -> Batch:
        inputs = self.latents(count, device)
        if self.condition:
            inputs[self.condition.key] = self.condition.sample(count).to(device)
        return inputs

    def latents(self, count: int, device: torch.device | str) -> Batch:
        """Draw latents from the prior: {"latent": [count, d]}, or nothing without a prior."""
        return {"latent": self.prior(count, device)} if self.prior else {}

    def conditioned_critic(self, batch: Batch, discriminator: nn.Module) -> BoundCritic:
        """Return a discriminator with the batch's condition bound, a function of images alone."""
        condition = self.encode_condition(batch)
        return self.bind_condition(condition[0] if condition else None, discriminator)

    def bind_condition(self, y: Tensor | None, discriminator: nn.Module) -> BoundCritic:
        """Return the discriminator as a function of images, with y [B, width] bound."""
        return BoundCritic(discriminator, None if y is None else self.packed(y), self.packing)

    def encode_condition(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return what the networks get besides latents or images: (y,) with y [B, width, ...], or ()."""
        return (self.condition(batch),) if self.condition else ()

    def packed(self, rows: Tensor) -> Tensor:
        """Arrange rows [B, C, ...] as packs [B / packing, packing * C, ...]; an incomplete pack is dropped."""
        if self.packing == 1:
            return rows
        packs = len(rows) // self.packing
        if packs == 0:
            raise UserError(f"model.game.packing={self.packing}: a batch has only {len(rows)} images")
        return rows[: packs * self.packing].unflatten(0, (packs, self.packing)).flatten(1, 2)

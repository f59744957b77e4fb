"""Generation: images from noise, and perhaps from a condition."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from oakleaf.conditioning.condition import Condition
from oakleaf.conditioning.priors import Prior
from oakleaf.config.types import PositiveInt
from oakleaf.errors import UserError
from oakleaf.games.game import Batch, Game
from oakleaf.losses.loss import Loss
from oakleaf.losses.terms import Term
from oakleaf.round import CriticOutput, Round


class Generation(Game):
    """G turns latents into images, D tells them from real ones. Goodfellow 2014, arXiv:1406.2661.

    generator: z [B, d] -> images [B, C, H, W] in [-1, 1]; discriminator: images -> CriticOutput. With a condition both are
    told y as well, G(z, y) and D(x, y), and fakes are asked for what the batch's real images are (Mirza 2014,
    arXiv:1411.1784, eq. (2)). prior: null where the condition alone is turned into images, G(y), as in translation
    (Isola 2016, arXiv:1611.07004, section 3).
    packing: how many images D judges together, as the channels of one (Lin 2017, arXiv:1712.04086, section 2). A batch
    of B images is B / packing packs; in the paper's code a batch is B packs.
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
        single = [name for named in self.terms.values() for name, term in named.items() if term.of_single_images]
        if packing > 1 and single:
            raise UserError(f"model.game.packing={packing}: {single[0]} asks D about single images, and sees packs")

    def play(self, batch: Batch) -> list[Round]:
        real, inputs = batch["image"], self.fake_inputs(batch)
        fake = self.generate(inputs)
        return [Round(self.packed(real), self.packed(fake), self.critic(inputs, self.discriminator), batch, inputs)]

    def fake_inputs(self, batch: Batch) -> Batch:
        """What the fakes are made from: fresh latents, and the condition of the batch's real images."""
        inputs = self.latents(len(batch["image"]), batch["image"].device)
        if self.condition:
            inputs[self.condition.key] = batch[self.condition.key]
        return inputs

    def generate(self, batch: Batch) -> Tensor:
        latent = (batch["latent"],) if self.prior else ()
        return self.generator(*latent, *self.encode_condition(batch))

    def sample_inputs(self, count: int, device: torch.device | str = "cpu") -> Batch:
        request = self.latents(count, device)
        if self.condition:
            request[self.condition.key] = self.condition.sample(count).to(device)
        return request

    def latents(self, count: int, device: torch.device | str) -> Batch:
        return {"latent": self.prior(count, device)} if self.prior else {}

    def critic(self, batch: Batch, discriminator: nn.Module) -> "nn.Module | partial[CriticOutput]":
        """D with the batch's condition bound."""
        told = self.encode_condition(batch)
        return self.bind_condition(told[0], discriminator) if told else discriminator

    def bind_condition(self, y: Tensor, discriminator: nn.Module) -> "partial[CriticOutput]":
        """D with y bound."""
        return partial(_conditioned, discriminator, self.packed(y))

    def encode_condition(self, batch: Batch) -> tuple[Tensor, ...]:
        """What networks get beside latents or images: y [B, width, ...], or nothing."""
        return (self.condition(batch),) if self.condition else ()

    def packed(self, rows: Tensor) -> Tensor:
        """Rows [B, C, ...] as packs [B / packing, packing * C, ...]; what fills no pack is left out."""
        if self.packing == 1:
            return rows
        whole = len(rows) // self.packing
        if whole == 0:
            raise UserError(f"model.game.packing={self.packing}: a batch has only {len(rows)} images")
        return rows[: whole * self.packing].unflatten(0, (whole, self.packing)).flatten(1, 2)


def _conditioned(critic: nn.Module, y: Tensor, x: Tensor) -> CriticOutput:
    """Of as many images as rows of y, or of several times as many, for each time the same rows."""
    again = len(x) // len(y)
    return critic(x, y if again == 1 else y.repeat(again, *[1] * (y.dim() - 1)))  # type: ignore[no-any-return]

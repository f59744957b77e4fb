"""Generation: images from noise."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from oakleaf.games.game import Batch, Game
from oakleaf.losses.loss import Loss
from oakleaf.losses.terms import Term
from oakleaf.priors import Normal, Uniform
from oakleaf.round import Round


class Generation(Game):
    """G turns latents into images, D tells them from real ones. Goodfellow 2014, arXiv:1406.2661.

    generator: z [B, d] -> images [B, C, H, W] in [-1, 1]; discriminator: images -> Verdict.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        prior: Normal | Uniform,
        loss: Loss,
        terms: Mapping[str, Mapping[str, Term]] | None = None,
    ) -> None:
        super().__init__(loss, terms)
        self.generator, self.discriminator, self.prior = generator, discriminator, prior

    def play(self, batch: Batch) -> list[Round]:
        real = batch["image"]
        fake = self.generate(self.request(len(real), real.device))
        return [Round(real, fake, self.discriminator)]

    def generate(self, batch: Batch) -> Tensor:
        return self.generator(batch["latent"])

    def request(self, count: int, device: torch.device | str = "cpu") -> Batch:
        return {"latent": self.prior(count, device)}

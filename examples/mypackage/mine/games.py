"""A game: how one batch becomes rounds of real against generated images."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from oakleaf.conditioning.priors import Prior
from oakleaf.config.types import NonNegativeFloat
from oakleaf.games import Batch, Generation
from oakleaf.losses.loss import Loss
from oakleaf.losses.terms import Term
from oakleaf.round import Round


class RandomBrightness(Generation):
    """Change the brightness of every image that the discriminator sees, real or generated, by a random amount.

    The change is differentiable, so the generator learns through it.

    Args:
        strength: largest change, where images are in [-1, 1].

    Reference: Zhao 2020, arXiv:2006.10738, section 3.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        prior: Prior,
        loss: Loss,
        terms: Mapping[str, Mapping[str, Term]] | None = None,
        strength: NonNegativeFloat = 0.5,
    ) -> None:
        super().__init__(generator, discriminator, prior, loss, terms)
        self.strength = strength

    def play(self, batch: Batch) -> list[Round]:
        (round,) = super().play(batch)
        critic = round.critic
        round.critic = lambda x: critic(x + self.brightness(x))
        return [round]

    def brightness(self, x: Tensor) -> Tensor:
        """Draw one change for each image of x [B, C, H, W]: [B, 1, 1, 1]."""
        return self.strength * (2 * torch.rand_like(x[:, :1, :1, :1]) - 1)

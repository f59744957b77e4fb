"""Plug & play generative networks: G inverts a frozen encoder, and denoising auto-encoders learn beside it."""

from collections.abc import Mapping

from torch import nn

from oakleaf.conditioning.condition import Condition
from oakleaf.games.game import Batch
from oakleaf.games.generation import Generation
from oakleaf.losses.loss import Loss
from oakleaf.losses.terms import Term
from oakleaf.optim.player import Role
from oakleaf.round import BoundCritic, ConditionalRound, Round


class PlugAndPlay(Generation):
    """G maps the code h = E(x) of a real image x back to it; D scores images, and does not see the codes.

    The code is computed once for each batch. Two further players, which only `sample.py mode=ppgn` uses, minimise their
    terms alone: denoising auto-encoders of codes (PPGN-h) and of images (PPGN-x).

    Args:
        generator: codes [B, width] to images [B, C, H, W] in [-1, 1].
        discriminator: images to a `CriticOutput` or a tensor of scores.
        code_denoiser: noisy codes [B, width] to codes.
        image_denoiser: noisy images to images.
        condition: a `Code`.
        loss, terms: as for `Game`.

    Reference: Nguyen 2016, arXiv:1612.00005, figure 2 and section 3.
    """

    roles: Mapping[str, Role] = {
        "discriminator": "critic",
        "generator": "generator",
        "code_denoiser": "encoder",
        "image_denoiser": "encoder",
    }

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        code_denoiser: nn.Module,
        image_denoiser: nn.Module,
        condition: Condition,
        loss: Loss,
        terms: Mapping[str, Mapping[str, Term]] | None = None,
    ) -> None:
        super().__init__(generator, discriminator, None, loss, terms, condition)
        self.code_denoiser, self.image_denoiser = code_denoiser, image_denoiser

    def play(self, batch: Batch) -> list[Round]:
        real, inputs = batch["image"], self.fake_inputs(batch)
        (y,) = self.encode_condition(inputs)
        critic = BoundCritic(self.discriminator)
        return [ConditionalRound(real, self.generator(y), critic, self.generator, y, batch, inputs)]

"""Inference beside generation: an encoder goes the way from images to latents, and pairs of both are judged."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Size, Tensor, nn

from oakleaf.conditioning.priors import Prior
from oakleaf.config.types import PositiveInt
from oakleaf.games.game import Batch
from oakleaf.games.generation import Generation
from oakleaf.losses.loss import Loss
from oakleaf.losses.terms import Term
from oakleaf.round import CriticOutput, EncoderRound, Round


class Bidirectional(Generation):
    """D tells (x, E(x)) from (G(z), z); if it can't, E inverts G. Donahue 2016 (BiGAN), arXiv:1605.09782, eq. (2) and
    theorem 2; Dumoulin 2016 (ALI), arXiv:1606.00704, eq. (1), where E draws from q(z | x).

    encoder: images -> z [B, d], and `features`: images -> [B, f], the layer before; discriminator: x, z -> CriticOutput.
    A Round's real and fake are pairs as rows [B, C*H*W + d] (with packing, of several images and their latents), so
    gradient penalties and instance noise are those of pairs; terms that look at images don't belong here.

    The encoder minimises the generator's loss in the mirrored round (`adversarial`), s being the score of (x, E(x)):

    non-saturating   softplus(s), as in the papers (1605.09782, section 3.4; 1606.00704, eq. (4))
    saturating       -softplus(-s) = log D, its share of eq. (2)
    least squares    (s - (a + b - c))^2 / 2: with labels (0, 1, 1) it wants D to believe 0
    hinge            s
    Wasserstein      s
    relativistic     softplus(s - s_fake), the generator's own
    f-divergence     -g_f(2 v - s), or saturating -f*(g_f(2 v - s)), v being the score of no decision; the latter is
                     E's share of D's objective where f's reflection is the other half: GAN, Jensen-Shannon, Hellinger
    """

    def __init__(
        self,
        generator: nn.Module,
        encoder: nn.Module,
        discriminator: nn.Module,
        prior: Prior,
        loss: Loss,
        terms: Mapping[str, Mapping[str, Term]] | None = None,
        packing: PositiveInt = 1,
    ) -> None:
        super().__init__(generator, discriminator, prior, loss, terms, packing=packing)
        self.encoder = encoder

    def play(self, batch: Batch) -> list[Round]:
        x = batch["image"]
        inputs = self.latents(len(x), x.device)
        images = self.packed(x)
        real = pairs(images, self.packed(self.encoder(x)))
        fake = pairs(self.packed(self.generate(inputs)), self.packed(inputs["latent"]))
        return [Round(real, fake, partial(_judged, self.discriminator, images.shape[1:]), batch, inputs)]

    def encode(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] -> latents [B, d]."""
        return self.encoder(x)

    def adversarial(self, player: str, round: Round) -> Tensor | None:
        """The objective's side of the player; the encoder is a generator on the other side of the mirror.

        Scores are reflected about the objective's boundary. Where that is the middle of the batch (Wasserstein,
        relativistic), the objective sees differences of scores alone, and any point does: 0.
        """
        if player != "encoder":
            return super().adversarial(player, round)
        middle = self.loss.objective.decision_threshold(round)
        return self.loss.objective.generator(EncoderRound(round, 0.0 if isinstance(middle, Tensor) else middle))


def pairs(x: Tensor, z: Tensor) -> Tensor:
    """Images [B, C, H, W] and latents [B, d] as rows [B, C*H*W + d]."""
    return torch.cat([x.flatten(1), z], 1)


def _judged(critic: nn.Module, shape: Size, rows: Tensor) -> CriticOutput:
    """D of rows that are pairs, with images of that shape."""
    x, z = rows.tensor_split([shape.numel()], 1)
    return critic(x.unflatten(1, shape), z)  # type: ignore[no-any-return]

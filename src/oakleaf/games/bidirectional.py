"""Bidirectional GANs: an encoder maps images to latents, and the discriminator scores pairs of image and latent."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Size, Tensor, nn

from oakleaf.conditioning.priors import Prior
from oakleaf.config.types import PositiveInt
from oakleaf.games.game import Batch
from oakleaf.games.generation import Generation
from oakleaf.losses.loss import Loss
from oakleaf.losses.objectives import decision_threshold
from oakleaf.losses.terms import Term
from oakleaf.round import CriticOutput, EncoderRound, Round


class Bidirectional(Generation):
    """BiGAN and ALI: D separates (x, E(x)) from (G(z), z); where it cannot, E inverts G.

    A Round's real and fake are pairs as rows [B, C*H*W + d] (with packing, of several images and their latents). So
    gradient penalties and instance noise act on pairs; terms that look at images do not fit this game.

    The encoder minimises the generator's loss in the round with real and fake exchanged (`EncoderRound`). With s the
    score of (x, E(x)), that is:

    non-saturating   softplus(s), as in the papers (1605.09782, section 3.4; 1606.00704, eq. (4))
    saturating       -softplus(-s) = log D, its part of eq. (2)
    least squares    (s - (a + b - c))^2 / 2: with labels (0, 1, 1) E wants D to give 0
    hinge            s
    Wasserstein      s
    relativistic     softplus(s - s_fake), the generator's own
    f-divergence     -g_f(2 v - s), or saturating -f*(g_f(2 v - s)), v being the threshold; the latter is E's part of
                     D's objective where f's reflection is the other half: GAN, Jensen-Shannon, Hellinger

    Args:
        generator, discriminator, prior, loss, terms, packing: as for `Generation`; the discriminator maps x and z to a
            `CriticOutput`.
        encoder: images to z [B, d]; its method `features` maps images to [B, f], the layer before.

    Reference: Donahue 2016 (BiGAN), arXiv:1605.09782, eq. (2) and theorem 2; Dumoulin 2016 (ALI), arXiv:1606.00704,
    eq. (1), where E draws from q(z | x).
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
        return [Round(real, fake, partial(_score_pairs, self.discriminator, images.shape[1:]), batch, inputs)]

    def encode(self, x: Tensor) -> Tensor:
        """Map images [B, C, H, W] to latents [B, d]."""
        return self.encoder(x)

    def adversarial(self, player: str, round: Round) -> Tensor | None:
        """Return the player's side of the objective; the encoder is a generator of the exchanged round.

        Scores are reflected about the objective's threshold. Where that is the middle of the batch (Wasserstein,
        relativistic), the objective depends on differences of scores only, and any point will do: 0.
        """
        if player != "encoder":
            return super().adversarial(player, round)
        threshold = decision_threshold(self.loss.objective, round)
        return self.loss.objective.generator(EncoderRound(round, 0.0 if isinstance(threshold, Tensor) else threshold))


def pairs(x: Tensor, z: Tensor) -> Tensor:
    """Join images [B, C, H, W] and latents [B, d] to rows [B, C*H*W + d]."""
    return torch.cat([x.flatten(1), z], 1)


def _score_pairs(critic: nn.Module, shape: Size, rows: Tensor) -> CriticOutput:
    """Split rows into images of this shape and latents, and run the critic on them."""
    x, z = rows.tensor_split([shape.numel()], 1)
    return critic(x.unflatten(1, shape), z)  # type: ignore[no-any-return]

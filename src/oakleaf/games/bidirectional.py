"""Bidirectional GANs: an encoder maps images to latents, and the discriminator scores pairs of image and latent."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Size, Tensor, nn

from oakleaf.conditioning.priors import Prior
from oakleaf.config.types import PositiveInt
from oakleaf.games.game import Batch
from oakleaf.games.generation import Generation
from oakleaf.losses.loss import Loss
from oakleaf.losses.objectives import decision_threshold
from oakleaf.losses.terms import Term
from oakleaf.optim.player import Role
from oakleaf.round import BoundCritic, CriticOutput, EncoderRound, Round


class Bidirectional(Generation):
    """BiGAN and ALI: D separates (x, E(x)) from (G(z), z); where it cannot, E inverts G.

    A Round's real and fake are pairs as rows [B, C*H*W + d] (with packing, of several images and their latents). So
    gradient penalties act on pairs; terms that look at images do not fit this game. An augmentation changes the images
    of the pairs.

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

    roles: Mapping[str, Role] = {"discriminator": "critic", "generator": "generator", "encoder": "encoder"}

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
        image, extras = self.run_generator(inputs)
        fake = pairs(self.packed(image), self.packed(inputs["latent"]))
        critic = PairCritic(self.discriminator, images.shape[1:], self.packing)
        return [Round(real, fake, critic, batch, inputs, extras)]

    def encode(self, x: Tensor) -> Tensor:
        """Map images [B, C, H, W] to latents [B, d]."""
        return self.encoder(x)

    def adversarial(self, player: str, round: Round, objective: Any) -> Tensor | None:
        """Return the player's side of the objective; the encoder is a generator of the exchanged round.

        Scores are reflected about the objective's threshold. Where that is the middle of the batch (Wasserstein,
        relativistic), the objective depends on differences of scores only, and any point will do: 0.
        """
        if self.roles[player] != "encoder":
            return super().adversarial(player, round, objective)
        threshold = decision_threshold(objective, round)
        encoder_round = EncoderRound(round, 0.0 if isinstance(threshold, Tensor) else threshold)
        return objective.generator(encoder_round)  # type: ignore[no-any-return]


def pairs(x: Tensor, z: Tensor) -> Tensor:
    """Join images [B, C, H, W] and latents [B, d] to rows [B, C*H*W + d]."""
    return torch.cat([x.flatten(1), z], 1)


class PairCritic(BoundCritic):
    """A critic of pairs of image and latent, as a function of rows.

    Args:
        network: maps images and latents to a `CriticOutput` or a tensor of scores.
        shape: the shape [C, H, W] of an image, or of a pack of images.
        packing: images in a pack.
    """

    def __init__(self, network: nn.Module, shape: Size, packing: int = 1) -> None:
        super().__init__(network, packing=packing)
        self.shape = shape

    def split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Split rows [B, C*H*W + d] into images [B, C, H, W] and latents [B, d]."""
        x, z = rows.tensor_split([self.shape.numel()], 1)
        return x.unflatten(1, self.shape), z

    def run(self, x: Tensor, condition: Tensor | None) -> CriticOutput | Tensor:
        return self.network(*self.split(x))  # type: ignore[no-any-return]

    def augmented(self, x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor | None]:
        images, z = self.split(x)
        return pairs(super().augmented(images, None)[0], z), None

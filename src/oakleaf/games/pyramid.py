"""LAPGAN: the coarsest image from noise, then the residual of each finer image from noise and the upsampled image."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from oakleaf.conditioning.condition import Condition
from oakleaf.conditioning.priors import Prior
from oakleaf.config.types import NonNegativeInt, PositiveInt
from oakleaf.errors import UserError
from oakleaf.games.game import Batch, Scalars
from oakleaf.games.generation import Generation
from oakleaf.losses.loss import Loss
from oakleaf.losses.terms import Term
from oakleaf.networks.pyramid import LevelNetworks
from oakleaf.round import GeneratorOutput, Round, generator_output


class Pyramid(Generation):
    """LAPGAN: one conditional GAN for each level of a Laplacian pyramid.

    I_0 is the image, I_{k+1} = d(I_k) is half as large, and h_k = I_k - u(I_{k+1}) is the detail that is lost. Each
    level is one Round: G_k(z_k, l_k), with l_k = u(I_{k+1}) of the real image, against h_k. Both are scored with l_k
    added, which is all that D_k sees of it. The coarsest level is an ordinary GAN. Levels share no weights, and each is
    trained on real coarser images, so training all together gives what training each alone gives.

    Args:
        generator: by level, z [B, level.latent], l [B, C, h, w] to residuals; the last one z to images.
        discriminator: by level, images [B, C, h, w] to `CriticOutput`. With a condition all get y as well.
        prior: from `dim` to the prior of all levels' latents, the finest level first.
        loss, terms, condition, packing: as for `Generation`.
        levels: the levels that are trained, 0 is the finest; None: all.

    Reference: Denton 2015, arXiv:1506.05751, section 3.2.
    """

    generator: LevelNetworks
    discriminator: LevelNetworks

    def __init__(
        self,
        generator: LevelNetworks,
        discriminator: LevelNetworks,
        prior: Callable[..., Prior],
        loss: Loss,
        terms: Mapping[str, Mapping[str, Term]] | None = None,
        condition: Condition | None = None,
        packing: PositiveInt = 1,
        levels: list[NonNegativeInt] | None = None,
    ) -> None:
        dims: list[int] = [level.latent for level in generator.levels]  # type: ignore[misc]
        super().__init__(generator, discriminator, prior(dim=sum(dims)), loss, terms, condition, packing)
        self.dims, self.depth = dims, generator.depth
        self.levels = list(range(self.depth + 1)) if levels is None else sorted(set(levels))
        if not self.levels or self.levels[-1] > self.depth:
            raise UserError(f"model.game.levels={levels}: the levels are 0 (the finest) to {self.depth}")
        if (condition.width if condition else 0) != generator.classes:
            raise UserError(
                "model.game.condition: a pyramid needs a condition of classes or attributes: model/condition=label"
            )

    def play(self, batch: Batch) -> list[Round]:
        real = pyramid(batch["image"], self.depth)
        inputs = self.fake_inputs(batch)
        critics = self.discriminator.levels
        rounds = []
        for k in self.levels:
            low = up(real[k + 1]) if k < self.depth else None
            pair = self.packed(real[k]), self.packed(self.level(k, inputs, low))
            rounds.append(Round(*pair, self.conditioned_critic(inputs, critics[k]), batch, inputs))
        return rounds

    def level(self, k: int, batch: Batch, low: Tensor | None) -> Tensor:
        """Generate one level's image: the upsampled image `low` [B, C, h, w] plus the residual of G_k.

        The coarsest level has no `low`.
        """
        z, generator = batch["latent"].split(self.dims, 1)[k], self.generator.levels[k]
        condition = self.encode_condition(batch)
        if low is None:
            return generator_output(generator(z, *condition)).image
        return low + generator_output(generator(z, low, *condition)).image

    def networks_of(self, critic: str, count: int) -> list[nn.Module]:
        """Return the network of a further critic for each level; it is built as the game's own, by level."""
        network = self.get_submodule(critic)
        if not hasattr(network, "levels"):
            raise UserError(f"model.critics.{critic}: a pyramid needs a critic with a network for each level")
        levels: Any = network.levels
        return [levels[k] for k in self.levels]

    def takes_option(self, name: str) -> bool:
        return False  # it has a generator for each level

    def run_generator(self, batch: Batch) -> GeneratorOutput:
        return GeneratorOutput(self.grow(batch)[0])

    def grow(self, batch: Batch) -> list[Tensor]:
        """Generate the images of all levels, the finest first, each from the one after it; values stay in [-1, 1]."""
        images: list[Tensor] = []
        for k in reversed(range(self.depth + 1)):
            images.insert(0, self.level(k, batch, up(images[0]) if images else None).clamp(-1, 1))
        return images

    def reduce(self, losses: list[Tensor]) -> Tensor:
        """Return the sum over levels, so that each level learns as fast as alone."""
        return torch.stack(losses).sum()

    @torch.no_grad()
    def diagnostics(self, rounds: list[Round], player: str) -> Scalars:
        """Return the means over levels, and each level's numbers under `<name>/<width>px`."""
        levels = [
            (f"{name}/{round.real.shape[-1]}px", value)
            for round in rounds
            for name, value in super(Pyramid, self).diagnostics([round], player).items()
        ]
        return {**super().diagnostics(rounds, player), **dict(levels)}


def down(images: Tensor) -> Tensor:
    """Downsample [B, C, 2h, 2w] to [B, C, h, w] by means of 2 x 2 pixels: the paper's d."""
    return avg_pool2d(images, 2)


def up(images: Tensor) -> Tensor:
    """Upsample [B, C, h, w] to [B, C, 2h, 2w] bilinearly: the paper's u."""
    return interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)


def pyramid(images: Tensor, depth: int) -> list[Tensor]:
    """Return the Gaussian pyramid I_0, I_1, ... of images [B, C, H, W]."""
    levels = [images]
    for _ in range(depth):
        levels.append(down(levels[-1]))
    return levels


def residuals(levels: list[Tensor]) -> list[Tensor]:
    """Return the Laplacian pyramid: h_k = I_k - u(I_{k+1}), and the coarsest image (eq. (3))."""
    return [*[image - up(coarser) for image, coarser in pairwise(levels)], levels[-1]]

"""A pyramid: the coarsest image from noise, then the residual of each finer one from noise and what is there so far."""

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from torch import Tensor
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
from oakleaf.round import Round


class Pyramid(Generation):
    """LAPGAN. Denton 2015, arXiv:1506.05751, section 3.2. I_0 is the image, I_{k+1} = d(I_k) half as large, and
    h_k = I_k - u(I_{k+1}) what is lost. One Round a level: G_k(z_k, l_k), with l_k = u(I_{k+1}) of the real image,
    against h_k, both judged with l_k added to them, which is all that D_k sees of it; the coarsest is an ordinary game.

    generator: by level, z [B, level.latent], l [B, C, h, w] -> residuals, the last one z -> images; discriminator: by
    level, images [B, C, h, w] -> CriticOutput. With a condition all are told y as well.
    prior: dim -> that of the latents of all levels, the finest first, side by side.
    levels: which ones are trained; null: all. They share no weights, and each learns from real coarser images, so all
    together learn what each alone does.
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
            raise UserError(f"model.game.levels={levels}: there are the levels 0, the finest, to {self.depth}")
        if (condition.width if condition else 0) != generator.classes:
            raise UserError("model.game.condition: a pyramid is told classes or attributes: model/condition=label")

    def play(self, batch: Batch) -> list[Round]:
        real = pyramid(batch["image"], self.depth)
        inputs = self.fake_inputs(batch)
        critics = self.discriminator.levels
        rounds = []
        for k in self.levels:
            low = up(real[k + 1]) if k < self.depth else None
            pair = self.packed(real[k]), self.packed(self.level(k, inputs, low))
            rounds.append(Round(*pair, self.critic(inputs, critics[k]), batch, inputs))
        return rounds

    def level(self, k: int, batch: Batch, low: Tensor | None) -> Tensor:
        """What G_k makes of its latents and the low-pass image [B, C, h, w], with that added; the coarsest has none."""
        z, told, generator = (
            batch["latent"].split(self.dims, 1)[k],
            self.encode_condition(batch),
            self.generator.levels[k],
        )
        return generator(z, *told) if low is None else low + generator(z, low, *told)  # type: ignore[no-any-return]

    def generate(self, batch: Batch) -> Tensor:
        return self.grow(batch)[0]

    def grow(self, batch: Batch) -> list[Tensor]:
        """The images of all levels, the finest first, each made from the one after it; no value leaves [-1, 1]."""
        images: list[Tensor] = []
        for k in reversed(range(self.depth + 1)):
            images.insert(0, self.level(k, batch, up(images[0]) if images else None).clamp(-1, 1))
        return images

    def reduce(self, paid: list[Tensor]) -> Tensor:
        """The levels' sum, so that each learns as fast as alone."""
        return torch.stack(paid).sum()

    @torch.no_grad()
    def diagnostics(self, rounds: list[Round]) -> Scalars:
        """Their mean, and each level by the width of its images."""
        each = {f"{name} {round.real.shape[-1]}px": value for round in rounds for name, value in self._seen(round)}
        return {**super().diagnostics(rounds), **each}

    def _seen(self, round: Round) -> list[tuple[str, Tensor]]:
        return list(super().diagnostics([round]).items())


def down(images: Tensor) -> Tensor:
    """d: [B, C, 2h, 2w] -> [B, C, h, w], each value the mean of four."""
    return avg_pool2d(images, 2)


def up(images: Tensor) -> Tensor:
    """u: [B, C, h, w] -> [B, C, 2h, 2w], bilinear."""
    return interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)


def pyramid(images: Tensor, depth: int) -> list[Tensor]:
    """I_0, I_1, ..., the Gaussian pyramid of images [B, C, H, W]."""
    levels = [images]
    for _ in range(depth):
        levels.append(down(levels[-1]))
    return levels


def residuals(levels: list[Tensor]) -> list[Tensor]:
    """h_k = I_k - u(I_{k+1}), and the coarsest image: the Laplacian pyramid (eq. (3))."""
    return [*[image - up(coarser) for image, coarser in pairwise(levels)], levels[-1]]

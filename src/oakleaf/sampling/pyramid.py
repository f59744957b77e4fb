"""A way to draw that shows how a pyramid's image came about."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from oakleaf.config.types import PositiveInt
from oakleaf.errors import UserError
from oakleaf.games import Batch, Game, Pyramid
from oakleaf.games.pyramid import residuals
from oakleaf.sampling.latents import Mode, Request, seeded_inputs


@dataclass
class Levels(Mode):
    """A row for each of `count` samples: the coarsest image, then for each finer level its residual, on grey, and the
    image with that added. Denton 2015, arXiv:1506.05751, figure 1. All are enlarged to the full size, pixel by pixel.
    """

    count: PositiveInt = 8

    def __call__(self, game: Game, seed: int) -> Request:
        if not isinstance(game, Pyramid):
            raise UserError("mode=pyramid: this checkpoint's images are made at once; model=lapgan")
        return seeded_inputs(game, self.count, seed), 2 * game.depth + 1

    def generate(self, game: Game, batch: Batch) -> Tensor:
        """[B * (2 * depth + 1), C, H, W]"""
        assert isinstance(game, Pyramid)
        images = game.grow(batch)
        *details, coarsest = residuals(images)
        shown = [coarsest]
        for detail, image in zip(reversed(details), reversed(images[:-1])):
            shown += [detail, image]
        return torch.stack([interpolate(level, images[0].shape[2:]) for level in shown], 1).flatten(0, 1)

"""The sampling mode that shows the levels of a Laplacian pyramid."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from oakleaf.config.types import PositiveInt
from oakleaf.errors import UserError
from oakleaf.figures.grid import Panel
from oakleaf.games import Batch, Game, Pyramid
from oakleaf.games.pyramid import residuals
from oakleaf.gan import GAN
from oakleaf.sampling.latents import GridInputs, Mode, seeded_inputs


@dataclass
class Levels(Mode):
    """The levels of a pyramid's samples, a row for each sample.

    A row begins with the coarsest image. For each finer level follow its residual, on grey, and the image to which the
    residual was added. All are enlarged to the full size without smoothing.

    Args:
        count: rows.

    Reference: Denton 2015, arXiv:1506.05751, figure 1.
    """

    title = "levels of the pyramid"
    count: PositiveInt = 8

    def __call__(self, game: Game, seed: int) -> GridInputs:
        """Draw the inputs of all levels."""
        if not isinstance(game, Pyramid):
            raise UserError("mode=pyramid: this checkpoint has no pyramid of generators; model=lapgan")
        return seeded_inputs(game, self.count, seed, truncation=self.truncation), 2 * game.depth + 1

    def generate(self, game: Game, batch: Batch) -> Tensor:
        """Generate the images of all levels, [B * (2 * depth + 1), C, H, W]."""
        assert isinstance(game, Pyramid)
        images = game.grow(batch)
        *details, coarsest = residuals(images)
        levels = [coarsest]
        for detail, image in zip(reversed(details), reversed(images[:-1])):
            levels += [detail, image]
        return torch.stack([interpolate(level, images[0].shape[2:]) for level in levels], 1).flatten(0, 1)

    def kinds(self, module: GAN) -> Sequence[str]:
        assert isinstance(module.game, Pyramid)
        names = ["coarsest"]
        for level in reversed(range(module.game.depth)):
            names += ["residual", "finest" if level == 0 else f"level {level}"]
        return names

    def panels(self, module: GAN, inputs: Batch, columns: int | None) -> list[Panel]:
        return [Panel(columns=columns, column_names=self.kinds(module))]

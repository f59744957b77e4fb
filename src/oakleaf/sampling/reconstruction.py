"""Ways to draw by choosing real images, where an encoder tells their latents."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from oakleaf.config.types import PositiveInt
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.errors import UserError
from oakleaf.games import Game
from oakleaf.image_grid import from_bytes, interleave
from oakleaf.runtime.seeds import derive_seed
from oakleaf.sampling.latents import Mode, Request, seeded_inputs


@dataclass
class Reconstruct(Mode):
    """`count` of the run's real images x, each beside what the game makes of it: G(E(x)), where a stochastic encoder
    gives its mean (Donahue 2016, arXiv:1605.09782, figure 2; Dumoulin 2016, arXiv:1606.00704, figure 2b), or what a
    critic gives back that is an auto-encoder (Zhao 2016, arXiv:1609.03126, section 2.3).
    """

    count: PositiveInt = 64
    real: Callable[[], ImageDataModule] | None = field(default=None, init=False)
    originals: Tensor = field(default_factory=lambda: torch.empty(0), init=False)
    given: Tensor | None = field(default=None, init=False)

    def set_data(self, real: Callable[[], ImageDataModule]) -> None:
        self.real = real

    def __call__(self, game: Game, seed: int) -> Request:
        encode, give = getattr(game, "encode", None), _giver(game)
        if self.real is None or not (encode or give):
            raise UserError(
                "mode=reconstruct: nothing in this checkpoint's game gives images back; model=bigan, ali, ebgan"
            )
        images = self.real().rows["image"]
        self.originals = from_bytes(images[_some(len(images), self.count, seed, "reconstruct")])
        columns = 2 * max(1, round(math.sqrt(self.count / 2)))
        there = self.originals.to(next(game.parameters()).device)
        with torch.no_grad():
            if encode:
                return {"latent": encode(there)}, columns
            self.given = give(there).cpu() if give else None
        return seeded_inputs(game, self.count, seed), columns

    def arrange(self, images: Tensor, inputs: Tensor | None) -> Tensor:
        """Each original, then its reconstruction, [2B, C, H, W]."""
        return interleave(self.originals, images if self.given is None else self.given)


@dataclass
class Translate(Mode):
    """`count` of the run's real inputs, each beside what the generator makes of it and the image that belongs to it, if
    one does."""

    count: PositiveInt = 64
    real: Callable[[], ImageDataModule] | None = field(default=None, init=False)
    images: list[Tensor] = field(default_factory=list, init=False)

    def set_data(self, real: Callable[[], ImageDataModule]) -> None:
        self.real = real

    def __call__(self, game: Game, seed: int) -> Request:
        data = self.real() if self.real else None
        if data is None or not game.translates:
            raise UserError("mode=translate: this checkpoint's generator is given no pictures")
        batch = data.batch(_some(len(data.rows["image"]), self.count, seed, "translate"))
        self.images = [batch["image"]] if data.pairs else []
        width = 2 + len(self.images)
        return {"input": batch["input"]}, width * max(1, round(math.sqrt(self.count / width)))

    def arrange(self, images: Tensor, inputs: Tensor | None) -> Tensor:
        """Input, translation, image, [3B, C, H, W], or the first two."""
        assert inputs is not None
        return interleave(inputs, images, *self.images)


def _some(of: int, count: int, seed: int, what: str) -> Tensor:
    """`count` different rows of so many, or all."""
    return torch.randperm(of, generator=torch.Generator().manual_seed(derive_seed(seed, what)))[:count]


def _giver(game: Game) -> Callable[[Tensor], Tensor] | None:
    """What gives images back: the game itself, or its critic."""
    critic = getattr(game, "discriminator", None)
    return getattr(game, "reconstruct", None) or getattr(critic, "reconstruct", None)

"""Ways to draw by choosing real images, where an encoder tells their latents."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from oakleaf.data.dealt import Dealt
from oakleaf.errors import Mistake
from oakleaf.games import Game
from oakleaf.modes.latents import Asked, Mode
from oakleaf.numbers import Count
from oakleaf.pictures import from_bytes
from oakleaf.seeds import stream


@dataclass
class Reconstruct(Mode):
    """`count` of the run's real images x, each beside G(E(x)); a stochastic encoder gives its mean. Donahue 2016,
    arXiv:1605.09782, figure 2; Dumoulin 2016, arXiv:1606.00704, figure 2b.
    """

    count: Count = 64
    real: Callable[[], Dealt] | None = field(default=None, init=False)
    originals: Tensor = field(default_factory=lambda: torch.empty(0), init=False)

    def meet(self, real: Callable[[], Dealt]) -> None:
        self.real = real

    def __call__(self, game: Game, seed: int) -> Asked:
        encoder = getattr(game, "encoder", None)
        if encoder is None or self.real is None:
            raise Mistake("mode=reconstruct: this checkpoint's game has no encoder; model=bigan and model=ali have one")
        images = self.real().rows["image"]
        rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(stream(seed, "reconstruct")))
        self.originals = from_bytes(images[rows[: self.count]])
        with torch.no_grad():
            latent = encoder(self.originals.to(next(encoder.parameters()).device))
        return {"latent": latent}, 2 * max(1, round(math.sqrt(self.count / 2)))

    def shown(self, images: Tensor) -> Tensor:
        """Each original, then its reconstruction, [2B, C, H, W]."""
        return torch.stack([self.originals, images], 1).flatten(0, 1)

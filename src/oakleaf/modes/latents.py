"""Ways to draw by choosing latents."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor

from oakleaf.errors import Mistake
from oakleaf.games import Batch, Game
from oakleaf.numbers import Count, NonNegative
from oakleaf.seeds import stream

Asked = tuple[Batch, int | None]  # a batch for `Game.generate`, and the columns of the sheet (None: square)


def draw(game: Game, count: int, seed: int) -> Batch:
    """What the seed asks of the game; drawn on the CPU, so the same on every device."""
    torch.manual_seed(stream(seed, "draw"))
    return game.request(count)


def latents(game: Game, count: int, seed: int) -> Tensor:
    """The same, for modes that calculate with latents, [count, d].

    Raises:
        Mistake: the game's generator takes none.
    """
    request = draw(game, count, seed)
    if "latent" not in request:
        raise Mistake("this mode calculates with latents, and the checkpoint's generator takes none")
    return request["latent"]


class Mode(ABC):
    """A way to draw."""

    @abstractmethod
    def __call__(self, game: Game, seed: int) -> Asked: ...


@dataclass
class Grid(Mode):
    """`count` independent samples."""

    count: Count = 64

    def __call__(self, game: Game, seed: int) -> Asked:
        return draw(game, self.count, seed), None


@dataclass
class Interpolate(Mode):
    """Rows of `steps` images from one latent to another, both ends included, along the great circle."""

    pairs: Count = 8
    steps: Count = 10

    def __call__(self, game: Game, seed: int) -> Asked:
        start, end = latents(game, 2 * self.pairs, seed).chunk(2)
        shares = torch.linspace(0, 1, self.steps)
        between = torch.stack([slerp(start, end, share) for share in shares], dim=1)  # [pairs, steps, d]
        return {"latent": between.flatten(0, 1)}, self.steps


@dataclass
class Arithmetic(Mode):
    """a - b + c, each the mean of several latents. Radford 2015, arXiv:1511.06434, section 6.3.2 and figure 7.

    a, b, c: numbers of samples that `Grid` draws with the same seed. Three columns show the groups and below them their
    means; then comes the result, in the middle of eight neighbours with uniform noise of +-spread.
    """

    a: list[int] = field(default_factory=lambda: [0, 1, 2])
    b: list[int] = field(default_factory=lambda: [3, 4, 5])
    c: list[int] = field(default_factory=lambda: [6, 7, 8])
    spread: NonNegative = 0.25

    def __call__(self, game: Game, seed: int) -> Asked:
        groups = {"a": self.a, "b": self.b, "c": self.c}
        for name, numbers in groups.items():
            if not numbers or min(numbers) < 0 or len(numbers) != len(self.a):
                raise Mistake(f"mode.{name}={numbers}: as many samples' numbers as in mode.a are expected, from 0 on")
        z = latents(game, 1 + max(max(numbers) for numbers in groups.values()), seed)
        means = [z[numbers].mean(0, keepdim=True) for numbers in groups.values()]
        result = means[0] - means[1] + means[2]
        noise = (2 * torch.rand(9, z.shape[1]) - 1) * self.spread
        noise[4] = 0
        side_by_side = torch.stack([z[numbers] for numbers in groups.values()], dim=1).flatten(0, 1)
        return {"latent": torch.cat([side_by_side, *means, result + noise])}, 3


def slerp(start: Tensor, end: Tensor, share: Tensor | float) -> Tensor:
    """Spherical interpolation [B, d]: the angle is divided evenly, the length linearly (Shoemake 1985; White 2016,
    arXiv:1609.04468, section 2.1). Parallel and opposite latents, where no great circle is defined, go straight.
    """
    length = torch.lerp(start.norm(dim=1, keepdim=True), end.norm(dim=1, keepdim=True), torch.as_tensor(share))
    one, two = (z / z.norm(dim=1, keepdim=True) for z in (start, end))
    angle = (one * two).sum(1, keepdim=True).clamp(-1, 1).acos()
    round_about = (torch.sin((1 - share) * angle) * one + torch.sin(share * angle) * two) / torch.sin(angle)
    straight = torch.lerp(start, end, torch.as_tensor(share))
    return torch.where(torch.sin(angle).abs() > 1e-4, round_about * length, straight)

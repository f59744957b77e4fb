"""Ways to draw by choosing latents."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from oakleaf.conditioning import priors
from oakleaf.config.types import NonNegativeFloat, PositiveFloat, PositiveInt
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.errors import UserError
from oakleaf.games import Batch, Game
from oakleaf.image_grid import interleave
from oakleaf.runtime.seeds import derive_seed

WIDEST = 32  # columns at most
PIECE = 64  # latents drawn together, by random numbers of their own
Request = tuple[Batch, int | None]  # a batch for `Game.generate`, and the columns of the sheet (None: square)


def seeded_inputs(game: Game, count: int, seed: int, with_condition: bool = True) -> Batch:
    """What the seed asks of the game; drawn on the CPU, so the same on every device, and piece by piece, so that the
    first latents are the same however many are drawn. told: with what the condition asks for of its own.
    """
    key = game.condition.key if game.condition else None
    pieces: dict[str, list[Tensor]] = {}
    for start in range(0, count, PIECE):
        torch.manual_seed(derive_seed(seed, "draw", start))
        for name, values in game.sample_inputs(PIECE).items():
            if name != key:
                pieces.setdefault(name, []).append(values)
    drawn = {name: torch.cat(values)[:count] for name, values in pieces.items()}
    return {**drawn, key: game.condition.sample(count)} if with_condition and game.condition and key else drawn


def latent_inputs(game: Game, count: int, seed: int) -> Batch:
    """The same, for modes that calculate with its latents [count, d].

    Raises:
        UserError: the game's generator takes none.
    """
    request = seeded_inputs(game, count, seed)
    if "latent" not in request:
        raise UserError("this mode calculates with latents, and the checkpoint's generator takes none")
    return request


class Mode(ABC):
    """A way to draw. chooses_conditions: the conditions too, so that none can be asked for."""

    chooses_conditions = False

    def set_data(self, real: Callable[[], ImageDataModule]) -> None:  # noqa: B027, most need none
        """Called before all else, with a way to get the run's real images; they are read when it is called."""

    @abstractmethod
    def __call__(self, game: Game, seed: int) -> Request: ...

    def generate(self, game: Game, batch: Batch) -> Tensor:
        """Images [B, C, H, W] for the batch, or several for each of its rows, one after the other."""
        return game.generate(batch)

    def arrange(self, images: Tensor, inputs: Tensor | None) -> Tensor:
        """What is written of the images drawn, [B, C, H, W]: each beside the picture that the generator was told, if it
        was."""
        return images if inputs is None else interleave(inputs, images)


@dataclass
class Grid(Mode):
    """`count` independent samples."""

    count: PositiveInt = 64

    def __call__(self, game: Game, seed: int) -> Request:
        return seeded_inputs(game, self.count, seed), None


@dataclass
class Interpolate(Mode):
    """Rows of `steps` images from one latent to another, both ends included, along the great circle."""

    pairs: PositiveInt = 8
    steps: PositiveInt = 10

    def __call__(self, game: Game, seed: int) -> Request:
        asked = latent_inputs(game, 2 * self.pairs, seed)
        start, end = asked["latent"].chunk(2)
        shares = torch.linspace(0, 1, self.steps)
        between = torch.stack([slerp(start, end, share) for share in shares], dim=1)  # [pairs, steps, d]
        rows = torch.arange(self.pairs).repeat_interleave(self.steps)  # a row stays with the condition it starts with
        return {**_rows(asked, rows), "latent": between.flatten(0, 1)}, self.steps


@dataclass
class Arithmetic(Mode):
    """a - b + c, each the mean of several latents. Radford 2015, arXiv:1511.06434, section 6.3.2 and figure 7.

    a, b, c: numbers of samples that `Grid` draws with the same seed. Three columns show the groups and below them their
    means; then comes the result, in the middle of eight neighbours with uniform noise of +-spread.
    """

    a: list[int] = field(default_factory=lambda: [0, 1, 2])
    b: list[int] = field(default_factory=lambda: [3, 4, 5])
    c: list[int] = field(default_factory=lambda: [6, 7, 8])
    spread: NonNegativeFloat = 0.25

    def __call__(self, game: Game, seed: int) -> Request:
        groups = {"a": self.a, "b": self.b, "c": self.c}
        for name, numbers in groups.items():
            if not numbers or min(numbers) < 0 or len(numbers) != len(self.a):
                raise UserError(f"mode.{name}={numbers}: as many samples' numbers as in mode.a are expected, from 0 on")
        asked = latent_inputs(game, 1 + max(max(numbers) for numbers in groups.values()), seed)
        z = asked["latent"]
        means = [z[numbers].mean(0, keepdim=True) for numbers in groups.values()]
        result = means[0] - means[1] + means[2]
        noise = (2 * torch.rand(9, z.shape[1]) - 1) * self.spread
        noise[4] = 0
        shown = torch.tensor([*groups.values()]).T.flatten()  # three columns
        rows = torch.cat([shown, shown[:3], shown[2].expand(9)])  # means and results: under the condition of the first
        return {**_rows(asked, rows), "latent": torch.cat([z[shown], *means, result + noise])}, 3


@dataclass
class ByClass(Mode):
    """A column for each class, a row for each latent. Mirza 2014, arXiv:1411.1784, figure 2."""

    chooses_conditions = True
    rows: PositiveInt = 8

    def __call__(self, game: Game, seed: int) -> Request:
        condition = game.condition
        if condition is None:
            raise UserError("mode=by_class: this checkpoint's generator is told no class")
        columns = min(condition.width, WIDEST)
        z = latent_inputs(game, self.rows, seed)["latent"].repeat_interleave(columns, 0)
        told = torch.cat([condition.sample(columns)] * self.rows)
        return {"latent": z, condition.key: told}, columns


@dataclass
class Codes(Mode):
    """What the code of an InfoGAN means. Chen 2016, arXiv:1606.03657, figure 2: each row is one latent; along it one
    part of the code changes, the others stay. For each part, in turn, `rows` rows: first those of the categories, each
    with all of its values, then the continuous numbers from -`reach` to `reach`.
    """

    rows: PositiveInt = 4
    reach: PositiveFloat = 2.0

    def __call__(self, game: Game, seed: int) -> Request:
        prior = getattr(game, "prior", None)
        if not isinstance(prior, priors.Codes):
            raise UserError("mode=codes: this checkpoint's latents have no code")
        columns = max([10, *prior.categories])
        z = latent_inputs(game, self.rows, seed)["latent"]
        start, pieces = prior.dim - prior.width, []
        for width in [*prior.categories, *[1] * prior.continuous]:
            changed = z.repeat_interleave(columns, 0)
            values = torch.eye(width)[torch.arange(columns) % width] if width > 1 else self._line(columns)
            changed[:, start : start + width] = values.repeat(self.rows, 1)
            pieces.append(changed)
            start += width
        return {"latent": torch.cat(pieces)}, columns

    def _line(self, columns: int) -> Tensor:
        return torch.linspace(-self.reach, self.reach, columns)[:, None]


def _rows(asked: Batch, rows: Tensor) -> Batch:
    return {name: values[rows] for name, values in asked.items()}


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

"""Sampling modes that choose latents, and the seeding of latents."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from oakleaf.conditioning import priors
from oakleaf.config.types import NonNegativeFloat, PositiveFloat, PositiveInt, Truncation
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.errors import UserError
from oakleaf.games import Batch, Game
from oakleaf.image_grid import interleave
from oakleaf.runtime.seeds import derive_seed
from oakleaf.sampling.truncation import truncated

MAX_COLUMNS = 32  # of a grid by class
SAMPLED_TOGETHER = 256  # images
BLOCK = 64  # latents that are drawn together, from random numbers of their own
GridInputs = tuple[Batch, int | None]  # inputs of the generator, and the columns of their grid; None: about square


def seeded_inputs(
    game: Game, count: int, seed: int, with_condition: bool = True, truncation: Truncation | None = None
) -> Batch:
    """Draw the inputs of a generator from a seed.

    They are drawn on the CPU, so that they are the same on every device, and in blocks, so that the first latents are
    the same however many are drawn.

    Args:
        game: the game whose generator is used.
        count: number of samples.
        seed: of the latents.
        with_condition: whether to add the conditions that the game's own `Condition` draws.
        truncation: see `truncated`; None: none.

    Returns:
        Tensors [count, ...] by name, for `Game.generate`.

    Raises:
        UserError: the samples of this game cannot be truncated.
    """
    key = game.condition.key if game.condition else None
    blocks: dict[str, list[Tensor]] = {}
    for start in range(0, count, BLOCK):
        torch.manual_seed(derive_seed(seed, "draw", start))
        for name, values in truncated(game, game.sample_inputs(BLOCK), truncation).items():
            if name != key:
                blocks.setdefault(name, []).append(values)
    inputs = {name: torch.cat(values)[:count] for name, values in blocks.items()}
    return {**inputs, key: game.condition.sample(count)} if with_condition and game.condition and key else inputs


def latent_inputs(game: Game, count: int, seed: int, truncation: Truncation | None = None) -> Batch:
    """Draw the inputs as `seeded_inputs` does, for modes that compute with the latents [count, d].

    Raises:
        UserError: the game's generator takes no latents.
    """
    inputs = seeded_inputs(game, count, seed, truncation=truncation)
    if "latent" not in inputs:
        raise UserError("this mode computes with latents, and the generator of this checkpoint takes none")
    return inputs


def sample_in_batches(
    module: Any, inputs: Batch, ema: bool = True, generate: Callable[[Game, Batch], Tensor] | None = None
) -> Tensor:
    """Generate images in batches of at most 256.

    Args:
        module: the `oakleaf.gan.GAN`.
        inputs: the generator's inputs [count, ...] by name, on any device.
        ema: whether to use the EMA networks where there are any.
        generate: a function to use in place of `Game.generate`.

    Returns:
        Images [count, C, H, W] in [-1, 1], float32, on the CPU.
    """
    pieces = zip(*(values.split(SAMPLED_TOGETHER) for values in inputs.values()))
    batches = ({name: part.to(module.device) for name, part in zip(inputs, piece)} for piece in pieces)
    return torch.cat([module.sample(batch, ema, generate).cpu() for batch in batches])


class Mode(ABC):
    """A way to choose samples and to arrange them.

    Attributes:
        chooses_conditions: whether the mode chooses the conditions, so that `condition=` cannot.
        truncation: of the latents that the mode draws; see `oakleaf.sampling.truncation`.
    """

    chooses_conditions = False
    truncation: Truncation | None = None

    def set_data(self, data: Callable[[], ImageDataModule]) -> None:  # noqa: B027, most modes need none
        """Give the mode access to the run's real images; called before everything else.

        Args:
            data: returns the data module; the images are read when it is called.
        """

    @abstractmethod
    def __call__(self, game: Game, seed: int) -> GridInputs:
        """Choose the inputs of the generator.

        Args:
            game: the game in eval mode.
            seed: of all random choices.

        Returns:
            Inputs for `Game.generate`, on any device, and the columns of the grid; None: about square.

        Raises:
            UserError: the game is not suited to this mode.
        """

    def generate(self, game: Game, batch: Batch) -> Tensor:
        """Generate images [B, C, H, W] for a batch of the inputs; or several images in a row for each of them."""
        return game.generate(batch)

    def arrange(self, images: Tensor, inputs: Tensor | None) -> Tensor:
        """Arrange the images for the grid and for `samples.npy`.

        Args:
            images: what was generated, [B, C, H, W].
            inputs: what the condition shows of each input as an image, if it can.
        """
        return images if inputs is None else interleave(inputs, images)


@dataclass
class Grid(Mode):
    """Independent samples.

    Args:
        count: number of samples.
    """

    count: PositiveInt = 64

    def __call__(self, game: Game, seed: int) -> GridInputs:
        """Draw latents, and conditions if there are any."""
        return seeded_inputs(game, self.count, seed, truncation=self.truncation), None


@dataclass
class Interpolate(Mode):
    """Interpolation from one latent to another along the great circle, a row for each pair.

    Args:
        pairs: rows.
        steps: images in a row, both ends included.

    Reference: White 2016, arXiv:1609.04468; Radford 2015, arXiv:1511.06434, section 6.1.
    """

    pairs: PositiveInt = 8
    steps: PositiveInt = 10

    def __call__(self, game: Game, seed: int) -> GridInputs:
        """Interpolate between the first and the second half of the latents."""
        inputs = latent_inputs(game, 2 * self.pairs, seed, self.truncation)
        start, end = inputs["latent"].chunk(2)
        weights = torch.linspace(0, 1, self.steps)
        latents = torch.stack([slerp(start, end, weight) for weight in weights], dim=1)  # [pairs, steps, d]
        rows = torch.arange(self.pairs).repeat_interleave(self.steps)  # each row keeps the condition of its start
        return {**_select(inputs, rows), "latent": latents.flatten(0, 1)}, self.steps


@dataclass
class Arithmetic(Mode):
    """The vector arithmetic a - b + c, where a, b and c are means of several latents.

    The grid has three columns: the samples of a, b and c, below them those of the three means, and then the result in
    the middle of eight neighbours.

    Args:
        a: numbers, from 0, of samples that `Grid` draws with the same seed.
        b: the same, as many as in a.
        c: the same, as many as in a.
        spread: the neighbours have uniform noise in [-spread, spread].

    Reference: Radford 2015, arXiv:1511.06434, section 6.3.2 and figure 7.
    """

    a: list[int] = field(default_factory=lambda: [0, 1, 2])
    b: list[int] = field(default_factory=lambda: [3, 4, 5])
    c: list[int] = field(default_factory=lambda: [6, 7, 8])
    spread: NonNegativeFloat = 0.25

    def __call__(self, game: Game, seed: int) -> GridInputs:
        """Compute the means and the result."""
        groups = {"a": self.a, "b": self.b, "c": self.c}
        for name, numbers in groups.items():
            if not numbers or min(numbers) < 0 or len(numbers) != len(self.a):
                raise UserError(f"mode.{name}={numbers}: list the numbers of samples, from 0, as many as in mode.a")
        inputs = latent_inputs(game, 1 + max(max(numbers) for numbers in groups.values()), seed, self.truncation)
        z = inputs["latent"]
        means = [z[numbers].mean(0, keepdim=True) for numbers in groups.values()]
        result = means[0] - means[1] + means[2]
        noise = (2 * torch.rand(9, z.shape[1]) - 1) * self.spread
        noise[4] = 0
        shown = torch.tensor([*groups.values()]).T.flatten()  # three columns
        # means and results have the condition of the first sample of their group, the results that of c
        rows = torch.cat([shown, shown[:3], shown[2].expand(9)])
        return {**_select(inputs, rows), "latent": torch.cat([z[shown], *means, result + noise])}, 3


@dataclass
class ByClass(Mode):
    """A column for each class, a row for each latent.

    Args:
        rows: number of latents.

    Reference: Mirza 2014, arXiv:1411.1784, figure 2.
    """

    chooses_conditions = True
    rows: PositiveInt = 8

    def __call__(self, game: Game, seed: int) -> GridInputs:
        """Combine each latent with each class, at most 32 of them."""
        condition = game.condition
        if condition is None:
            raise UserError("mode=by_class: the generator of this checkpoint has no condition")
        columns = min(condition.width, MAX_COLUMNS)
        inputs = latent_inputs(game, self.rows, seed, self.truncation)
        rows = torch.arange(self.rows).repeat_interleave(columns)
        conditions = torch.cat([condition.sample(columns)] * self.rows)
        return {**_select(inputs, rows), condition.key: conditions}, columns


@dataclass
class Codes(Mode):
    """The meaning of an InfoGAN's code: along a row, one part of the code changes and all else stays the same.

    For each part of the code there are `rows` rows, each with another latent: first for the categorical parts, each
    with all of its values, then for the continuous ones.

    Args:
        rows: for each part of the code.
        reach: continuous parts change from -reach to reach.

    Reference: Chen 2016, arXiv:1606.03657, figure 2.
    """

    rows: PositiveInt = 4
    reach: PositiveFloat = 2.0

    def __call__(self, game: Game, seed: int) -> GridInputs:
        """Vary each part of the code."""
        prior = getattr(game, "prior", None)
        if not isinstance(prior, priors.Codes):
            raise UserError("mode=codes: the latents of this checkpoint have no code; model=infogan")
        columns = max([10, *prior.categories])
        z = latent_inputs(game, self.rows, seed, self.truncation)["latent"]
        start, latents = prior.dim - prior.width, []
        for width in [*prior.categories, *[1] * prior.continuous]:
            changed = z.repeat_interleave(columns, 0)
            values = torch.eye(width)[torch.arange(columns) % width] if width > 1 else self._continuous(columns)
            changed[:, start : start + width] = values.repeat(self.rows, 1)
            latents.append(changed)
            start += width
        return {"latent": torch.cat(latents)}, columns

    def _continuous(self, columns: int) -> Tensor:
        return torch.linspace(-self.reach, self.reach, columns)[:, None]


def _select(inputs: Batch, rows: Tensor) -> Batch:
    return {name: values[rows] for name, values in inputs.items()}


def slerp(start: Tensor, end: Tensor, weight: Tensor | float) -> Tensor:
    """Interpolate spherically between latents: the angle is divided evenly, the length linearly.

    Parallel and opposite latents, for which no great circle is defined, are interpolated linearly.

    Args:
        start: [B, d].
        end: [B, d].
        weight: of the end, from 0 to 1.

    Reference: Shoemake 1985; White 2016, arXiv:1609.04468, section 2.1.
    """
    length = torch.lerp(start.norm(dim=1, keepdim=True), end.norm(dim=1, keepdim=True), torch.as_tensor(weight))
    one, two = (z / z.norm(dim=1, keepdim=True) for z in (start, end))
    angle = (one * two).sum(1, keepdim=True).clamp(-1, 1).acos()
    direction = (torch.sin((1 - weight) * angle) * one + torch.sin(weight * angle) * two) / torch.sin(angle)
    linear = torch.lerp(start, end, torch.as_tensor(weight))
    return torch.where(torch.sin(angle).abs() > 1e-4, direction * length, linear)

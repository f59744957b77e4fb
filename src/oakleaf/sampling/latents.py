"""Sampling modes that choose latents, and the seeding of latents."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oakleaf.conditioning import priors
from oakleaf.config.types import NonNegativeFloat, PositiveFloat, PositiveInt, Truncation
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.errors import UserError, first_line
from oakleaf.figures.grid import Panel
from oakleaf.games import Batch, Game
from oakleaf.gan import GAN
from oakleaf.image_grid import interleave
from oakleaf.runtime.seeds import derive_seed
from oakleaf.sampling.figure import TRANSLATION, condition_labels, sample_panel
from oakleaf.sampling.truncation import truncated

MAX_COLUMNS = 32  # of a grid by class
SAMPLED_TOGETHER = 256  # images
BLOCK = 64  # latents that are drawn together, from random numbers of their own
GridInputs = tuple[Batch, int | None]  # inputs of the generator, and the columns of their grid; None: about square


def seeded_inputs(
    game: Game,
    count: int,
    seed: int,
    with_condition: bool = True,
    truncation: Truncation | None = None,
    start: int = 0,
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
        start: number of the first sample among those of the seed, a multiple of 64.

    Returns:
        Tensors [count, ...] by name, for `Game.generate`.

    Raises:
        UserError: the samples of this game cannot be truncated.
    """
    key = game.condition.key if game.condition else None
    blocks: dict[str, list[Tensor]] = {}
    for first in range(start, start + count, BLOCK):
        torch.manual_seed(derive_seed(seed, "draw", first))
        for name, values in truncated(game, game.sample_inputs(BLOCK), truncation).items():
            if name != key:
                blocks.setdefault(name, []).append(values)
    inputs = {name: torch.cat(values)[:count] for name, values in blocks.items()}
    if with_condition and game.condition and key:
        inputs[key] = game.condition.rows_at(torch.arange(start, start + count))
    return inputs


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
        title: what the grid shows, for its title.
        chooses_conditions: whether the mode chooses the conditions, so that `condition=` cannot.
        uses_seed: whether one seed decides about all images.
        truncation: of the latents that the mode draws; see `oakleaf.sampling.truncation`.
        latents: a file with latents, from which the mode starts in place of those of a seed; None: none.
        checkpoint: the file that the generator is from.
        data_node: the node `data` of the run's configuration.
        condition_rows: returns the requested condition for a number of images, or nothing.
    """

    title = ""
    chooses_conditions = False
    uses_seed = True
    truncation: Truncation | None = None
    latents: str | None = None
    checkpoint: Path | None = None
    data_node: Mapping[str, Any] = {}
    condition_rows: Callable[[int], Batch] = staticmethod(lambda count: {})

    def start_inputs(self, game: Game, count: int, seed: int) -> Batch:
        """Return the inputs that the mode starts from: drawn from the seed, or those of the file of latents.

        Args:
            game: the game whose generator is used.
            count: number of latents; those of a file are repeated if it has fewer.
            seed: of the latents.
        """
        inputs = latent_inputs(game, count, seed, self.truncation)
        if self.latents is None:
            return inputs
        rows = read_latents(game, self.latents)
        drawn = truncated(game, {"latent": rows[torch.arange(count) % len(rows)]}, self.truncation)
        return {**inputs, **drawn}

    def save(self, out: Path) -> list[str]:
        """Write what the mode has found besides images into a folder, after they were generated; return the files."""
        return []

    def set_data(self, data: Callable[[], ImageDataModule]) -> None:  # noqa: B027, most modes need none
        """Give the mode access to the run's real images; called before everything else.

        Args:
            data: returns the data module; the images are read when it is called.
        """

    def request(self, module: GAN, condition: int | str | None) -> bool:
        """Take what `condition=` requests; called before the inputs are chosen.

        Args:
            module: the generator's module.
            condition: a number, name or text; None if nothing is requested.

        Returns:
            Whether the mode uses the condition itself. Otherwise it is one of the generator's, for all images.
        """
        return False

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

    def batches(self, game: Game, seed: int) -> Iterator[GridInputs]:
        """Give what `__call__` returns in parts, so that not all samples have to be in memory; by default in one."""
        yield self(game, seed)

    def total(self) -> int | None:
        """Return the number of inputs, for a progress bar; None if it is not known before."""
        return None

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

    def kinds(self, module: GAN) -> Sequence[str]:
        """Return what the images are that `arrange` returns for one input, such as ("input", "output"); ("",) for one
        sample."""
        return TRANSLATION if module.game.translates else ("",)

    def panels(self, module: GAN, inputs: Batch, columns: int | None) -> list[Panel]:
        """Return the headings of the grid.

        Args:
            module: the generator's module, which knows the names of the classes.
            inputs: the inputs that the grid's images were generated from.
            columns: images in a row, as `__call__` has returned them.
        """
        return [sample_panel(module, inputs, columns)]


@dataclass
class Grid(Mode):
    """Independent samples.

    Args:
        count: number of samples.
        seeds: "0-35,77" or a list of numbers: one sample for each of these seeds, in place of `count` samples of one
            seed. A seed's sample is the first one of `seed=` that number, with the class, or the stored row, of the
            seed's own number in turn. null: none.
        latents: a file with latents [N, d] (.npy, or .pt with one tensor), from which the samples are generated; null:
            none.
    """

    count: PositiveInt = 64
    seeds: str | int | list[int] | None = None
    latents: str | None = None

    def __post_init__(self) -> None:
        self.uses_seed = self.seeds is None and self.latents is None

    def __call__(self, game: Game, seed: int) -> GridInputs:
        """Draw latents, and conditions if there are any."""
        parts = [inputs for inputs, _ in self.batches(game, seed)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}, None

    def batches(self, game: Game, seed: int) -> Iterator[GridInputs]:
        """Give the inputs in parts of at most 256."""
        if self.seeds is not None and self.latents:
            raise UserError("seeds= and latents=: give one of them, since each says which latents are used")
        if self.latents:
            yield from ((inputs, None) for inputs in _latents_of_file(game, self.latents, self.truncation))
        elif self.seeds is not None:
            seeds = parse_seeds(self.seeds)
            for start in range(0, len(seeds), SAMPLED_TOGETHER):
                yield _inputs_of_seeds(game, seeds[start : start + SAMPLED_TOGETHER], self.truncation), None
        else:
            for start in range(0, self.count, SAMPLED_TOGETHER):
                count = min(SAMPLED_TOGETHER, self.count - start)
                yield seeded_inputs(game, count, seed, truncation=self.truncation, start=start), None

    def names(self, seed: int) -> Iterator[str]:
        """Give a file name without ending for each sample: its seed, or the seed and the number among its samples."""
        if self.seeds is not None:
            return (f"seed{number:04d}" for number in parse_seeds(self.seeds))
        stem = "latent" if self.latents else f"seed{seed:04d}-"
        return (f"{stem}{number:06d}" for number in itertools.count())

    def total(self) -> int | None:
        """Return the number of samples; None if a file has them."""
        return None if self.latents else self.count if self.seeds is None else len(parse_seeds(self.seeds))


def parse_seeds(seeds: str | int | list[int]) -> list[int]:
    """Return the seeds that "0-35,77" stands for, in this order.

    Raises:
        UserError: the text is something else.
    """
    if isinstance(seeds, list):
        return seeds
    numbers: list[int] = []
    for part in str(seeds).replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
            raise UserError(f"seeds={seeds}: write numbers and ranges with commas between them, such as 0-35,77")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


def _inputs_of_seeds(game: Game, seeds: Sequence[int], truncation: Truncation | None) -> Batch:
    """Return the inputs of one sample for each seed."""
    parts = [seeded_inputs(game, 1, seed, with_condition=False, truncation=truncation) for seed in seeds]
    inputs = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    if game.condition:
        inputs[game.condition.key] = game.condition.rows_at(torch.tensor(seeds))
    return inputs


def _latents_of_file(game: Game, name: str, truncation: Truncation | None) -> Iterator[Batch]:
    """Give the latents of a file in parts, with the conditions that the game draws."""
    z = read_latents(game, name)
    for start in range(0, len(z), SAMPLED_TOGETHER):
        inputs = truncated(game, {"latent": z[start : start + SAMPLED_TOGETHER]}, truncation)
        if game.condition:
            inputs[game.condition.key] = game.condition.rows_at(torch.arange(start, start + len(inputs["latent"])))
        yield inputs


def read_latents(game: Game, name: str) -> Tensor:
    """Read the latents [N, d] of a file.

    Raises:
        UserError: it cannot be read, or its latents are not those of the game.
    """
    width = latent_inputs(game, 1, 0)["latent"].shape[1]
    file = Path(name).expanduser()
    try:
        rows = torch.load(file, weights_only=True) if file.suffix == ".pt" else torch.from_numpy(np.load(file))
        z = rows.float().cpu()
    except (OSError, ValueError, AttributeError, RuntimeError, UnpicklingError) as error:
        raise UserError(
            f"latents={name}: it can't be read ({first_line(error)}); .npy or .pt with one array"
        ) from error
    if z.dim() != 2 or z.shape[1] != width or not len(z):
        raise UserError(f"latents={name}: latents [N, {width}] are needed, and it has {list(z.shape)}")
    return z


class Animated(Mode):
    """A mode whose latents move along a closed curve, which `sample.py` writes as a GIF and a video too.

    Attributes:
        frames: number of frames.
        frames_per_second: speed.
    """

    frames: PositiveInt
    frames_per_second: PositiveInt

    @abstractmethod
    def frame(self, number: int) -> Batch:
        """Return the inputs of the images of a frame, from 0; called after `__call__`."""

    def frame_columns(self) -> int | None:
        """Return the images in a row of a frame; None: about square."""
        return None


@dataclass
class Interpolate(Animated):
    """Interpolation from one latent to another along the great circle, a row for each pair.

    The animation shows all pairs at once, from the first latent to the second and back.

    Args:
        pairs: rows.
        steps: images in a row, both ends included.
        frames: frames of the animation.
        frames_per_second: speed of the animation.
        latents: a file of latents to start from, in place of those of the seed; null: none.

    Reference: White 2016, arXiv:1609.04468; Radford 2015, arXiv:1511.06434, section 6.1.
    """

    title = "interpolation between two latents"
    pairs: PositiveInt = 8
    steps: PositiveInt = 10
    frames: PositiveInt = 60
    frames_per_second: PositiveInt = 20
    latents: str | None = None
    ends: Batch = field(default_factory=dict, init=False)  # of the pairs: 2 * pairs rows

    def __call__(self, game: Game, seed: int) -> GridInputs:
        """Interpolate between the first and the second half of the latents."""
        self.ends = self.start_inputs(game, 2 * self.pairs, seed)
        rows = torch.arange(self.pairs).repeat_interleave(self.steps)  # each row keeps the condition of its start
        weights = torch.linspace(0, 1, self.steps).repeat(self.pairs)
        return self._between(rows, weights), self.steps

    def frame(self, number: int) -> Batch:
        weight = 1 - abs(1 - 2 * number / self.frames)
        return self._between(torch.arange(self.pairs), torch.full((self.pairs,), weight))

    def _between(self, rows: Tensor, weights: Tensor) -> Batch:
        """Return inputs between the ends of pairs.

        Args:
            rows: numbers of pairs, [B].
            weights: of the second end, [B].
        """
        start, end = self.ends["latent"].chunk(2)
        return {**_select(self.ends, rows), "latent": slerp(start[rows], end[rows], weights[:, None])}

    def panels(self, module: GAN, inputs: Batch, columns: int | None) -> list[Panel]:
        panel = sample_panel(module, inputs, columns)
        if panel.group > 1:
            return [panel]
        labels = condition_labels(module, inputs)[:: self.steps]
        weights = [f"{weight:.2g}" for weight in torch.linspace(0, 1, self.steps).tolist()]
        heading = "weight of the second latent"
        return [Panel(columns=columns, heading=heading, column_names=weights, row_names=labels)]


@dataclass
class Walk(Animated):
    """A closed walk of several generators' latents through latent space: from latent to latent along great circles.

    The grid shows the latents on the way, a row for each walk.

    Args:
        count: walks that are shown at once.
        points: latents on the way.
        steps: frames from one latent to the next.
        frames_per_second: speed of the animation.
        latents: a file of latents to start from, in place of those of the seed; null: none.

    Reference: White 2016, arXiv:1609.04468.
    """

    title = "walks through latent space"
    count: PositiveInt = 16
    points: PositiveInt = 6
    steps: PositiveInt = 20
    frames_per_second: PositiveInt = 20
    latents: str | None = None
    way: Batch = field(default_factory=dict, init=False)  # count * points rows, walk by walk

    @property
    def frames(self) -> int:  # type: ignore[override]
        """Number of frames of the whole walk."""
        return self.points * self.steps

    def __call__(self, game: Game, seed: int) -> GridInputs:
        """Draw the latents on the way; each walk keeps the condition of its first one."""
        inputs = self.start_inputs(game, self.count * self.points, seed)
        own = torch.arange(self.count).repeat_interleave(self.points)
        self.way = {**_select(inputs, own), "latent": inputs["latent"]}
        return self.way, self.points

    def frame(self, number: int) -> Batch:
        point, step = divmod(number, self.steps)
        start = torch.arange(self.count) * self.points + point
        end = torch.arange(self.count) * self.points + (point + 1) % self.points
        z = self.way["latent"]
        return {**_select(self.way, start), "latent": slerp(z[start], z[end], step / self.steps)}

    def panels(self, module: GAN, inputs: Batch, columns: int | None) -> list[Panel]:
        panel = sample_panel(module, inputs, columns)
        if panel.group > 1:
            return [panel]
        labels = condition_labels(module, inputs)[:: self.points]
        names = [f"latent {number + 1}" for number in range(self.points)]
        return [Panel(columns=columns, column_names=names, row_names=labels)]


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
        latents: a file of latents to start from, in place of those of the seed; null: none.

    Reference: Radford 2015, arXiv:1511.06434, section 6.3.2 and figure 7.
    """

    title = "vector arithmetic with means of latents"
    a: list[int] = field(default_factory=lambda: [0, 1, 2])
    b: list[int] = field(default_factory=lambda: [3, 4, 5])
    c: list[int] = field(default_factory=lambda: [6, 7, 8])
    spread: NonNegativeFloat = 0.25
    latents: str | None = None

    def __call__(self, game: Game, seed: int) -> GridInputs:
        """Compute the means and the result."""
        groups = {"a": self.a, "b": self.b, "c": self.c}
        for name, numbers in groups.items():
            if not numbers or min(numbers) < 0 or len(numbers) != len(self.a):
                raise UserError(f"mode.{name}={numbers}: list the numbers of samples, from 0, as many as in mode.a")
        inputs = self.start_inputs(game, 1 + max(max(numbers) for numbers in groups.values()), seed)
        z = inputs["latent"]
        means = [z[numbers].mean(0, keepdim=True) for numbers in groups.values()]
        result = means[0] - means[1] + means[2]
        noise = (2 * torch.rand(9, z.shape[1]) - 1) * self.spread
        noise[4] = 0
        shown = torch.tensor([*groups.values()]).T.flatten()  # three columns
        # means and results have the condition of the first sample of their group, the results that of c
        rows = torch.cat([shown, shown[:3], shown[2].expand(9)])
        return {**_select(inputs, rows), "latent": torch.cat([z[shown], *means, result + noise])}, 3

    def panels(self, module: GAN, inputs: Batch, columns: int | None) -> list[Panel]:
        names = ("a", "b", "c")
        rows = [f"{', '.join(str(number) for number in numbers)}" for numbers in zip(self.a, self.b, self.c)]
        return [
            Panel(3 * len(self.a), 3, "samples, by number", names, rows),
            Panel(3, 3, "means of their latents", names),
            Panel(9, 3, "a - b + c in the frame, and eight neighbours", framed=4),
        ]


@dataclass
class ByClass(Mode):
    """A column for each class, a row for each latent.

    Args:
        rows: number of latents.
        latents: a file of latents to start from, in place of those of the seed; null: none.

    Reference: Mirza 2014, arXiv:1411.1784, figure 2.
    """

    title = "a column for each class, a row for each latent"
    chooses_conditions = True
    rows: PositiveInt = 8
    latents: str | None = None

    def __call__(self, game: Game, seed: int) -> GridInputs:
        """Combine each latent with each class, at most 32 of them."""
        condition = game.condition
        if condition is None:
            raise UserError("mode=by_class: the generator of this checkpoint has no condition")
        columns = min(condition.width, MAX_COLUMNS)
        inputs = self.start_inputs(game, self.rows, seed)
        rows = torch.arange(self.rows).repeat_interleave(columns)
        conditions = torch.cat([condition.sample(columns)] * self.rows)
        return {**_select(inputs, rows), condition.key: conditions}, columns

    def panels(self, module: GAN, inputs: Batch, columns: int | None) -> list[Panel]:
        condition = module.game.condition
        if condition is not None and condition.preview(inputs) is not None:
            return [Panel(columns=columns and 2 * columns, column_names=("input", "output"), group=2)]
        labels = condition_labels(module, inputs)[:columns]
        return [Panel(columns=columns, column_names=labels or [f"row {number}" for number in range(columns or 1)])]


@dataclass
class Codes(Mode):
    """The meaning of an InfoGAN's code: along a row, one part of the code changes and all else stays the same.

    For each part of the code there are `rows` rows, each with another latent: first for the categorical parts, each
    with all of its values, then for the continuous ones.

    Args:
        rows: for each part of the code.
        reach: continuous parts change from -reach to reach.
        latents: a file of latents to start from, in place of those of the seed; null: none.

    Reference: Chen 2016, arXiv:1606.03657, figure 2.
    """

    title = "parts of the code, each alone"
    rows: PositiveInt = 4
    reach: PositiveFloat = 2.0
    latents: str | None = None

    def __call__(self, game: Game, seed: int) -> GridInputs:
        """Vary each part of the code."""
        prior = getattr(game, "prior", None)
        if not isinstance(prior, priors.Codes):
            raise UserError("mode=codes: the latents of this checkpoint have no code; model=infogan")
        columns = max([10, *prior.categories])
        z = self.start_inputs(game, self.rows, seed)["latent"]
        start, latents = prior.dim - prior.width, []
        for width in [*prior.categories, *[1] * prior.continuous]:
            changed = z.repeat_interleave(columns, 0)
            values = torch.eye(width)[torch.arange(columns) % width] if width > 1 else self._continuous(columns)
            changed[:, start : start + width] = values.repeat(self.rows, 1)
            latents.append(changed)
            start += width
        return {"latent": torch.cat(latents)}, columns

    def panels(self, module: GAN, inputs: Batch, columns: int | None) -> list[Panel]:
        prior = module.game.prior
        assert isinstance(prior, priors.Codes) and columns is not None
        panels = []
        for number, width in enumerate(prior.categories, 1):
            name = "category" if len(prior.categories) == 1 else f"category {number}"
            values = [f"{value % width}" for value in range(columns)]
            panels.append(Panel(self.rows * columns, columns, column_names=values, row_names=[name] * self.rows))
        values = [f"{value:.2g}" for value in self._continuous(columns).flatten().tolist()]
        for number in range(1, prior.continuous + 1):
            name = f"c{number} = {-self.reach:g} ... {self.reach:g}"
            panels.append(Panel(self.rows * columns, columns, column_names=values, row_names=[name] * self.rows))
        return panels

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

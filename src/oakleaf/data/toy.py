"""Points in the plane, drawn from mixtures of Gaussians whose density is known.

A point is an image of one pixel with a channel for each coordinate, [2, 1, 1], so that networks, losses and callbacks
treat it like any other image.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import cos, pi, sin
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from oakleaf.config.types import NonNegativeInt, PositiveFloat, PositiveInt
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.data.sampling import DeviceLoader, Rows
from oakleaf.runtime.seeds import derive_seed


@dataclass(kw_only=True)
class Mixture(ABC):
    """A mixture of Gaussians N(mean, sd^2 I) with equal weights, in the units of the paper that it is from.

    Args:
        name: of the data set.
        sd: the standard deviation of each Gaussian in each coordinate.
    """

    name: str
    sd: PositiveFloat

    @abstractmethod
    def modes(self) -> list[tuple[float, float]]:
        """Return the mean of each Gaussian."""

    @cached_property
    def means(self) -> Tensor:
        """The means as a tensor, [K, 2] float64."""
        return torch.tensor(self.modes(), dtype=torch.float64)

    @property
    def scale(self) -> float:
        """The number that coordinates are divided by, so that nearly all points are in [-1, 1].

        It is 1.25 times the largest absolute coordinate of a mean.
        """
        return 1.25 * float(self.means.abs().max())

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw points.

        Args:
            count: how many, N.
            generator: the source of random numbers.

        Returns:
            Points [N, 2] float64, not divided by `scale`, and the number of the Gaussian that each is from, [N] int64.
        """
        label = torch.randint(len(self.means), (count,), generator=generator)
        noise = torch.randn(count, 2, generator=generator, dtype=torch.float64)
        return self.means[label] + self.sd * noise, label


@dataclass(kw_only=True)
class Ring(Mixture):
    """Gaussians at equal distances on a circle.

    Args:
        components: the number of Gaussians.
        radius: of the circle.

    Reference: Metz 2016, arXiv:1611.02163; radius 1 and sd 0.01 as in Lin 2017 (PacGAN), arXiv:1712.04086, section 4.1.
    """

    components: PositiveInt = 8
    radius: PositiveFloat = 1.0

    def modes(self) -> list[tuple[float, float]]:
        # not linspace(0, 2 pi, components), which would count the first Gaussian twice
        angles = [2 * pi * k / self.components for k in range(self.components)]
        return [(self.radius * cos(angle), self.radius * sin(angle)) for angle in angles]


@dataclass(kw_only=True)
class Grid(Mixture):
    """Gaussians on a square grid around 0.

    Args:
        side: the number of Gaussians in each direction.
        spacing: the distance of neighbours.

    Reference: Dumoulin 2016 (ALI), arXiv:1606.00704; spacing 2 and sd 0.05 as in Lin 2017 (PacGAN), arXiv:1712.04086,
        section 4.1.
    """

    side: PositiveInt = 5
    spacing: PositiveFloat = 2.0

    def modes(self) -> list[tuple[float, float]]:
        coordinates = [self.spacing * (k - (self.side - 1) / 2) for k in range(self.side)]
        return [*product(coordinates, coordinates)]


@dataclass(kw_only=True)
class TwoGaussians(Mixture):
    """Two Gaussians on the first axis.

    Args:
        distance: between their means.
    """

    distance: PositiveFloat = 2.0

    def modes(self) -> list[tuple[float, float]]:
        return [(-self.distance / 2, 0.0), (self.distance / 2, 0.0)]


class Points(ImageDataModule):
    """Batches {image: [B, 2, 1, 1], label: [B]} of points that are drawn from a mixture once and then fixed.

    Args:
        name: of the data set.
        mixture: what the points are drawn from; coordinates are divided by its `scale`.
        points: how many.
        size: always 1: a point is an image of one pixel.
        channels: always 2: one for each coordinate.
        classes: the expected number of Gaussians; null: not checked.
        input_channels: the expected number of channels of the input, which is 0; null: not checked.
        batch_size: points in a batch of one process.
        epochs: the length of a run, unless it is set otherwise.
        cache: the folder where metrics keep what they computed about these data.
        seed: of the points, and of their order.

    Raises:
        UserError: `classes` or `input_channels` differs from what the mixture has.
    """

    keys = ("label",)
    size = (1, 1)
    channels = 2

    def __init__(
        self,
        name: str,
        mixture: Mixture,
        points: PositiveInt = 100_000,
        size: Literal[1] = 1,
        channels: Literal[2] = 2,
        classes: NonNegativeInt | None = None,
        input_channels: NonNegativeInt | None = None,
        batch_size: PositiveInt = 100,
        epochs: PositiveInt = 1,
        cache: str = "~/.cache/oakleaf",
        seed: int = 0,
    ) -> None:
        super().__init__(name, batch_size, epochs, seed)
        self.mixture, self.points, self.cache = mixture, points, Path(cache)
        self.classes = [f"({x:.2g}, {y:.2g})" for x, y in mixture.modes()]
        self.modes = mixture.means / mixture.scale
        self.check_declared(classes, input_channels)

    @property
    def digest(self) -> str:
        return repr((self.mixture, self.points, self.seed))

    def stored(self, images: Tensor) -> Tensor:
        return images.float().cpu()

    def setup(self, stage: str | None = None) -> None:
        """Draw the points."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "points"))
        points, label = self.mixture.draw(self.points, generator)
        self.rows = {"image": (points / self.mixture.scale).float()[:, :, None, None], "label": label}

    def train_dataloader(self) -> Iterable[Rows]:
        trainer = self.trainer
        assert trainer is not None
        device = trainer.strategy.root_device
        rows = {name: values.to(device) for name, values in self.rows.items()}
        return DeviceLoader(rows, self.sampler(trainer.global_rank, trainer.world_size), self.iteration)

    def on_after_batch_transfer(self, batch: Rows, dataloader_idx: int) -> Rows:
        """Convert the points to the precision of the networks."""
        module = self.trainer.lightning_module if self.trainer else None
        image = batch["image"].to(module.dtype if module else torch.float32)  # type: ignore[arg-type]
        return {"image": image, "label": batch["label"]}

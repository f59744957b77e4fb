"""Points in the plane, drawn from mixtures whose density is known.

A point is an image of one pixel with a channel for each coordinate, so that networks, losses and callbacks need not
know the difference.
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
    """Equal shares of Gaussians N(mean, sd^2 I), in the paper's own units."""

    name: str
    sd: PositiveFloat

    @abstractmethod
    def modes(self) -> list[tuple[float, float]]:
        """The means."""

    @cached_property
    def means(self) -> Tensor:
        """[K, 2]"""
        return torch.tensor(self.modes(), dtype=torch.float64)

    @property
    def scale(self) -> float:
        """What coordinates are divided by, so that nearly all points are in [-1, 1]: 1.25 times the means' largest."""
        return 1.25 * float(self.means.abs().max())

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Points [count, 2] and the Gaussian that each is from [count]."""
        label = torch.randint(len(self.means), (count,), generator=generator)
        noise = torch.randn(count, 2, generator=generator, dtype=torch.float64)
        return self.means[label] + self.sd * noise, label


@dataclass(kw_only=True)
class Ring(Mixture):
    """Gaussians on a circle. Metz 2016, arXiv:1611.02163; radius 1 and sd 0.01 in Lin 2017 (PacGAN), arXiv:1712.04086,
    section 4.1."""

    components: PositiveInt = 8
    radius: PositiveFloat = 1.0

    def modes(self) -> list[tuple[float, float]]:
        # not linspace(0, 2 pi, components): with both ends the first Gaussian counts twice
        angles = [2 * pi * k / self.components for k in range(self.components)]
        return [(self.radius * cos(angle), self.radius * sin(angle)) for angle in angles]


@dataclass(kw_only=True)
class Grid(Mixture):
    """Gaussians on a square grid around 0. Dumoulin 2016 (ALI), arXiv:1606.00704; spacing 2 and sd 0.05 in Lin 2017
    (PacGAN), arXiv:1712.04086, section 4.1."""

    side: PositiveInt = 5
    spacing: PositiveFloat = 2.0

    def modes(self) -> list[tuple[float, float]]:
        places = [self.spacing * (k - (self.side - 1) / 2) for k in range(self.side)]
        return [*product(places, places)]


@dataclass(kw_only=True)
class TwoGaussians(Mixture):
    """Two Gaussians on the first axis."""

    distance: PositiveFloat = 2.0

    def modes(self) -> list[tuple[float, float]]:
        return [(-self.distance / 2, 0.0), (self.distance / 2, 0.0)]


class Points(ImageDataModule):
    """Batches {image: [B, 2, 1, 1], label: [B]} of `points` fixed draws from a mixture, divided by its `scale`."""

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
        self.check_declared(classes, input_channels)

    @property
    def digest(self) -> str:
        return repr((self.mixture, self.points, self.seed))

    def stored(self, images: Tensor) -> Tensor:
        return images.float().cpu()

    def setup(self, stage: str | None = None) -> None:
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
        module = self.trainer.lightning_module if self.trainer else None
        image = batch["image"].to(module.dtype if module else torch.float32)  # type: ignore[arg-type]
        return {"image": image, "label": batch["label"]}

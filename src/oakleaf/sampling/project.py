"""The sampling mode that finds the latents of given pictures."""

import csv
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from oakleaf.config.types import PositiveInt
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.errors import UserError
from oakleaf.figures.grid import Panel
from oakleaf.frozen.network import FrozenNetwork
from oakleaf.frozen.trained import Trained
from oakleaf.games import Batch, Game
from oakleaf.gan import GAN
from oakleaf.image_grid import interleave
from oakleaf.runtime.run_dir import atomic_write
from oakleaf.runtime.seeds import derive_seed
from oakleaf.sampling.inversion import DRAWS, LBFGS, Adam, Distances, Domain, Inverted, best_of, invert
from oakleaf.sampling.latents import GridInputs, Mode, latent_inputs
from oakleaf.sampling.pictures import Pictures, read_pictures

log = logging.getLogger(__name__)

LATENTS, TABLE = "latents.npy", "projections.csv"
Start = Literal["mean", "encoder", "best"]


@dataclass
class Project(Mode):
    """The latents of given pictures, found by optimisation; each picture, where the optimisation began, and its result.

    Args:
        picture: a picture file, or a folder.
        method: `Adam` or `LBFGS`.
        distances: what is minimised.
        start: where the optimisation begins: the mean of the prior; the latent that the run's encoder gives; the best
            of `candidates` random latents. None: the encoder, where there is one, else the mean.
        candidates: for start=best.
        optimise: False gives the start alone.
        frozen: further frozen networks for the terms of `distances`, by name; those of the run are known.

    Attributes:
        pictures: what was read.
        result: what was found.

    Reference: Karras 2019, arXiv:1912.04958, appendix D; Zhu 2016, arXiv:1609.03552, section 3.1.
    """

    title = "pictures and their projections"
    picture: str | None = None
    method: Adam | LBFGS = field(default_factory=Adam)
    distances: Distances = field(default_factory=Distances)
    start: Start | None = None
    candidates: PositiveInt = 1000
    optimise: bool = True
    frozen: Mapping[str, FrozenNetwork] = field(default_factory=dict)
    data: Callable[[], ImageDataModule] | None = field(default=None, init=False)
    pictures: Pictures | None = field(default=None, init=False)
    result: Inverted | None = field(default=None, init=False)
    shown: Tensor = field(default_factory=lambda: torch.empty(0), init=False)

    def set_data(self, data: Callable[[], ImageDataModule]) -> None:
        """Give the mode access to the run's real images, which some frozen networks are trained on."""
        self.data = data

    def __call__(self, game: Game, seed: int) -> GridInputs:
        """Read the pictures and find their latents."""
        if self.picture is None:
            raise UserError("picture= is missing: name a picture, or a folder of pictures")
        device = next(game.parameters()).device
        draws = latent_inputs(game, DRAWS, derive_seed(seed, "domain"))["latent"].to(device)
        self.pictures = read_pictures(self.picture, self.data_node)
        targets, count = self.pictures.images.to(device), len(self.pictures.names)
        rows = {name: values.to(device) for name, values in self.condition_rows(count).items()}
        if game.condition and game.condition.key not in rows:
            raise UserError(f"condition= is missing: this generator is conditioned on `{game.condition.key}`")
        networks = {**dict(game.frozen.items()), **self.networks(device)}
        domain, encode = Domain.of(draws), getattr(game, "encode", None)

        def generate(z: Tensor, numbers: Tensor) -> Tensor:
            return game.generate({"latent": z, **{name: values[numbers] for name, values in rows.items()}}).float()

        def distance(z: Tensor, images: Tensor, target: Tensor) -> Tensor:
            return self.distances(z, images, target, domain, networks, encode)

        start = self._start(generate, targets, draws, domain, distance, encode)
        self.result = self._invert(generate, targets, start, domain, distance, seed)
        inputs = {"latent": self.result.latents, **rows}
        with torch.no_grad():
            self.shown = generate(start, torch.arange(count, device=device)).cpu()
        return inputs, None

    def _start(
        self, generate: Any, targets: Tensor, draws: Tensor, domain: Domain, distance: Any, encode: Any
    ) -> Tensor:
        """Return the latents from which the optimisation begins."""
        start = self.start or ("encoder" if encode else "mean")
        if start == "encoder":
            if not encode:
                raise UserError("mode.start=encoder: this checkpoint has no encoder; model=inverter trains one")
            with torch.no_grad():
                return domain.clamp(encode(targets).float())
        if start == "best":
            return best_of(generate, targets, draws[: self.candidates], distance)
        return domain.mean.expand(len(targets), -1).clone()

    def _invert(
        self, generate: Any, targets: Tensor, start: Tensor, domain: Domain, distance: Any, seed: int
    ) -> Inverted:
        """Optimise the latents, with a progress bar."""
        if not self.optimise:
            with torch.no_grad():
                images = generate(start, torch.arange(len(start), device=start.device))
                return Inverted(start, distance(start, images, targets), start)
        runs = len(targets) if isinstance(self.method, LBFGS) else 1
        seeds = [derive_seed(seed, "project", number) for number in range(len(targets))]
        with tqdm(total=runs * self.method.steps, desc="projecting", unit="step", leave=False, disable=None) as bar:

            def progress(loss: float) -> None:
                bar.update()
                bar.set_postfix(loss=f"{loss:.4g}", refresh=False)

            return invert(generate, targets, start, domain, distance, self.method, seeds, progress)

    def networks(self, device: torch.device) -> dict[str, FrozenNetwork]:
        """Return the mode's own frozen networks with their weights."""
        return with_weights(self.frozen, device, self.data)

    def arrange(self, images: Tensor, inputs: Tensor | None) -> Tensor:
        """Return each picture, the image of the start, and that of the result, [3B, C, H, W]."""
        assert self.pictures is not None
        return interleave(self.pictures.images, self.shown, images)

    def kinds(self, module: GAN) -> Sequence[str]:
        return "picture", "start", "projection"

    def panels(self, module: GAN, inputs: Batch, columns: int | None) -> list[Panel]:
        return [Panel(column_names=self.kinds(module), group=3)]

    def save(self, out: Path) -> list[str]:
        """Write the latents [N, d] as `latents.npy`, and the name and loss of each picture as `projections.csv`."""
        assert self.result is not None
        with atomic_write(out / LATENTS) as part, part.open("wb") as file:
            np.save(file, self.result.latents.cpu().numpy().astype(np.float32))
        columns = self.columns()
        with atomic_write(out / TABLE) as part, part.open("w", newline="") as table:
            csv.writer(table, lineterminator="\n").writerows([tuple(columns), *zip(*columns.values())])
        return [str(out / LATENTS), str(out / TABLE)]

    def columns(self) -> dict[str, Sequence[Any]]:
        """Return the columns of the table by name, a value for each picture."""
        assert self.pictures is not None and self.result is not None
        return {"picture": self.pictures.names, "loss": self.result.losses.tolist()}


def with_weights(
    networks: Mapping[str, FrozenNetwork], device: torch.device, data: Callable[[], ImageDataModule] | None
) -> dict[str, FrozenNetwork]:
    """Give the frozen networks of a mode their weights, and return them.

    Args:
        networks: by name.
        device: where they run.
        data: returns the run's images, on which some are trained.
    """
    for network in networks.values():
        network.to(device)
        network.initialize(data() if isinstance(network, Trained) and data is not None else None)
    return dict(networks)

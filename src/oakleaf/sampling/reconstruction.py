"""Sampling modes that start from real images: reconstruction and translation."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from oakleaf.config.types import PositiveInt
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.errors import UserError
from oakleaf.figures.grid import Panel
from oakleaf.games import Batch, Game
from oakleaf.gan import GAN
from oakleaf.image_grid import from_bytes, interleave
from oakleaf.runtime.seeds import derive_seed
from oakleaf.sampling.figure import TRANSLATION
from oakleaf.sampling.latents import GridInputs, Mode, seeded_inputs


@dataclass
class Reconstruct(Mode):
    """Real images, each followed by its reconstruction.

    The reconstruction is G(E(x)) if the game has an encoder, where a stochastic encoder gives its mean; otherwise it is
    the output of a discriminator that is an auto-encoder, or of the game itself.

    Args:
        count: real images, chosen at random.

    Attributes:
        originals: the real images, [count, C, H, W] in [-1, 1].

    Reference: Donahue 2016, arXiv:1605.09782, figure 2; Dumoulin 2016, arXiv:1606.00704, figure 2b; Zhao 2016,
    arXiv:1609.03126, section 2.3.
    """

    title = "real images and their reconstructions"
    count: PositiveInt = 64
    data: Callable[[], ImageDataModule] | None = field(default=None, init=False)
    originals: Tensor = field(default_factory=lambda: torch.empty(0), init=False)
    reconstructions: Tensor | None = field(default=None, init=False)  # if they are not what the generator generates

    def set_data(self, data: Callable[[], ImageDataModule]) -> None:
        """Give the mode access to the run's real images."""
        self.data = data

    def __call__(self, game: Game, seed: int) -> GridInputs:
        """Choose real images and encode them, or reconstruct them at once if there is no encoder."""
        encode, reconstruct = getattr(game, "encode", None), _reconstruction_function(game)
        if self.data is None or not (encode or reconstruct):
            raise UserError("mode=reconstruct: nothing in this checkpoint reconstructs images; model=bigan, ali, ebgan")
        data = self.data()
        self.originals = from_bytes(data.images(_random_rows(data.count, self.count, seed, "reconstruct")))
        columns = 2 * max(1, round(math.sqrt(self.count / 2)))
        x = self.originals.to(next(game.parameters()).device)
        with torch.no_grad():
            if encode:
                return {"latent": encode(x)}, columns
            self.reconstructions = reconstruct(x).cpu() if reconstruct else None
        return seeded_inputs(game, self.count, seed, truncation=self.truncation), columns

    def arrange(self, images: Tensor, inputs: Tensor | None) -> Tensor:
        """Return each original and its reconstruction, [2B, C, H, W]."""
        return interleave(self.originals, images if self.reconstructions is None else self.reconstructions)

    def kinds(self, module: GAN) -> Sequence[str]:
        return "real", "reconstruction"

    def panels(self, module: GAN, inputs: Batch, columns: int | None) -> list[Panel]:
        return [Panel(column_names=self.kinds(module), group=2)]


@dataclass
class Translate(Mode):
    """Real inputs of a translator, each followed by its translation, and by the target image if the data are paired.

    Args:
        count: real inputs, chosen at random.
    """

    title = "real inputs and their translations"
    count: PositiveInt = 64
    data: Callable[[], ImageDataModule] | None = field(default=None, init=False)
    targets: list[Tensor] = field(default_factory=list, init=False)  # one tensor if the data are paired

    def set_data(self, data: Callable[[], ImageDataModule]) -> None:
        """Give the mode access to the run's real images."""
        self.data = data

    def __call__(self, game: Game, seed: int) -> GridInputs:
        """Choose real inputs."""
        data = self.data() if self.data else None
        if data is None or not game.translates:
            raise UserError("mode=translate: the generator of this checkpoint is given no pictures; model=pix2pix")
        batch = data.batch(_random_rows(data.count, self.count, seed, "translate"))
        self.targets = [batch["image"]] if data.pairs else []
        width = 2 + len(self.targets)
        return {"input": batch["input"]}, width * max(1, round(math.sqrt(self.count / width)))

    def arrange(self, images: Tensor, inputs: Tensor | None) -> Tensor:
        """Return each input, its translation and, if there is one, its target image: [3B, C, H, W] or [2B, C, H, W]."""
        assert inputs is not None
        return interleave(inputs, images, *self.targets)

    def kinds(self, module: GAN) -> Sequence[str]:
        return (*TRANSLATION, "target")[: 2 + len(self.targets)]

    def panels(self, module: GAN, inputs: Batch, columns: int | None) -> list[Panel]:
        names = self.kinds(module)
        return [Panel(column_names=names, group=len(names))]


def _random_rows(rows: int, count: int, seed: int, purpose: str) -> Tensor:
    """Choose `count` different row numbers, or all in random order if there are fewer."""
    return torch.randperm(rows, generator=torch.Generator().manual_seed(derive_seed(seed, purpose)))[:count]


def _reconstruction_function(game: Game) -> Callable[[Tensor], Tensor] | None:
    """Return the function that reconstructs images: the game's own, or that of its discriminator."""
    discriminator = getattr(game, "discriminator", None)
    return getattr(game, "reconstruct", None) or getattr(discriminator, "reconstruct", None)

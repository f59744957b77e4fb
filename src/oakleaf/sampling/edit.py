"""The sampling mode that moves latents along named directions."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from oakleaf.config.types import PositiveFloat, PositiveInt
from oakleaf.errors import UserError
from oakleaf.figures.grid import Panel
from oakleaf.games import Batch, Game
from oakleaf.gan import GAN
from oakleaf.runtime.checkpoint_io import file_hash
from oakleaf.runtime.seeds import derive_seed
from oakleaf.sampling.inversion import DRAWS, Domain
from oakleaf.sampling.latents import GridInputs, Mode, latent_inputs, read_latents
from oakleaf.sampling.named_directions import choose, file_of, load, without

log = logging.getLogger(__name__)


@dataclass
class Edit(Mode):
    """Latents that are moved along named directions, which directions.py has found: a row for each latent.

    Args:
        direction: the name of a direction, or several; each has its own rows.
        keep: names of directions whose attributes should stay as they are: the part along them is left out.
        count: latents.
        steps: images in a row; the middle one is that of the latent itself if the number is odd.
        reach: the ends of a row, in standard deviations of the latents.
        latents: a file of latents, such as that of mode=project; null: `count` latents of the seed.

    Reference: Shen 2019 (InterFaceGAN), arXiv:1907.10786, sections 2.2 and 2.3.
    """

    title = "latents that are moved along a direction"
    direction: str | list[str] | None = None
    keep: list[str] = field(default_factory=list)
    count: PositiveInt = 4
    steps: PositiveInt = 7
    reach: PositiveFloat = 3.0
    latents: str | None = None
    names: list[str] = field(default_factory=list, init=False)

    def __call__(self, game: Game, seed: int) -> GridInputs:
        """Move each latent along each direction."""
        vectors = self._vectors()
        count = len(read_latents(game, self.latents)) if self.latents else self.count
        inputs = self.start_inputs(game, count, seed)
        sd = Domain.of(latent_inputs(game, DRAWS, derive_seed(seed, "domain"))["latent"]).sd
        if vectors.shape[1] != len(sd):
            raise UserError(f"direction=: it has {vectors.shape[1]} numbers, and latents of this run {len(sd)}")
        rows = torch.arange(count).repeat_interleave(self.steps).repeat(len(vectors))
        offsets = self.offsets().repeat(count * len(vectors))
        along = vectors.repeat_interleave(count * self.steps, 0)
        chosen = {name: values[rows] for name, values in inputs.items()}
        return {**chosen, "latent": chosen["latent"] + offsets[:, None] * sd * along}, self.steps

    def offsets(self) -> Tensor:
        """Return the offset of each column, in standard deviations."""
        return torch.linspace(-self.reach, self.reach, self.steps) if self.steps > 1 else torch.tensor([self.reach])

    def _vectors(self) -> Tensor:
        """Return the directions [K, d] without what should be kept."""
        if self.direction is None or self.checkpoint is None:
            raise UserError("direction= is missing: name a direction of directions.json, which directions.py makes")
        self.names = [self.direction] if isinstance(self.direction, str) else list(self.direction)
        file = file_of(self.checkpoint)
        known = load(file)
        chosen, kept = choose(known, self.names, file), choose(known, self.keep, file, "mode.keep")
        if {one.checkpoint for one in [*chosen, *kept]} - {"", file_hash(self.checkpoint)}:
            log.warning("%s was made for another checkpoint of this run; directions.py makes it again", file)
        vectors = [one.vector for one in chosen]
        if kept:
            others = torch.stack([one.vector for one in kept])
            vectors = [without(vector, others) for vector in vectors]
        return torch.stack(vectors)

    def panels(self, module: GAN, inputs: Batch, columns: int | None) -> list[Panel]:
        names = [f"{offset:+.2g}" for offset in self.offsets().tolist()]
        kept = f", without {', '.join(self.keep)}" if self.keep else ""
        each = len(inputs["latent"]) // len(self.names)
        return [
            Panel(each, self.steps, f"{name}{kept}, in standard deviations", names, framed=self._middle(each))
            for name in self.names
        ]

    def _middle(self, images: int) -> int | None:
        """Return the number of the image that is not moved, if there is a single row."""
        return self.steps // 2 if self.steps % 2 and images == self.steps else None

    def kinds(self, module: GAN) -> Sequence[str]:
        return ("",)

"""The sampling mode that shows a face at each age."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oakleaf.config.types import NonNegativeInt
from oakleaf.errors import UserError
from oakleaf.figures.grid import Panel
from oakleaf.games import Batch, Game
from oakleaf.gan import GAN
from oakleaf.image_grid import interleave
from oakleaf.losses.recognition import SameIdentity
from oakleaf.sampling.conditions import requested_condition
from oakleaf.sampling.inversion import LBFGS, Adam
from oakleaf.sampling.latents import GridInputs
from oakleaf.sampling.pictures import read_pictures, require_contrast
from oakleaf.sampling.project import Project


@dataclass
class Ages(Project):
    """Faces of pictures at each age: a latent is found for a face at its own age, and the age is then changed.

    The own age is needed, because the latent would otherwise hold what belongs to the age. It is that of `age`, or the
    class that `condition=` names, or what a file name begins with, as in 26_0_2_2017.jpg.

    Args:
        age: the age of the faces, in years; null: of `condition=` or of the file names.
        identity: the name of a frozen network, of the run or of `frozen`, that recognises persons: the squared distance
            of its embeddings is part of what is minimised, with weight 1. null: none.
        picture, method, distances, start, candidates, optimise, frozen: as for `Project`. Only the identity, as
            published, is distances.pixels=0.

    Reference: Antipov 2017, arXiv:1702.01983, section 2.2, eq. (1) and (2).
    """

    title = "faces and their ages"
    method: Adam | LBFGS = field(default_factory=lambda: LBFGS(steps=50))
    age: NonNegativeInt | None = None
    identity: str | None = None
    module: GAN | None = field(default=None, init=False)
    condition: int | str | None = field(default=None, init=False)
    own: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long), init=False)

    def request(self, module: GAN, condition: int | str | None) -> bool:
        """Take the requested condition as the age of the faces."""
        self.module, self.condition = module, condition
        return True

    def __call__(self, game: Game, seed: int) -> GridInputs:
        """Find the latents of the faces at their own ages, and combine each with each age."""
        if game.condition is None or not game.condition.classes or self.module is None:
            raise UserError("mode=ages: the generator of this checkpoint has no classes of ages; model=age_cgan has")
        if self.picture is None:
            raise UserError("picture= is missing: name a picture of a face, or a folder of such pictures")
        pictures = read_pictures(self.picture, self.data_node)
        require_contrast(pictures)
        self.own = torch.tensor([self._own_class(name) for name in pictures.names])
        self.condition_rows = lambda count: {"label": self.own}  # type: ignore[assignment]
        if self.identity is not None:
            self.distances.terms = {**self.distances.terms, "identity": SameIdentity(self.identity, "squared")}
        inputs, _ = super().__call__(game, seed)
        latents, ages = inputs["latent"], game.condition.classes
        labels = torch.arange(ages, device=latents.device).repeat(len(latents))
        return {"latent": latents.repeat_interleave(ages, 0), "label": labels}, ages + 1

    def arrange(self, images: Tensor, inputs: Tensor | None) -> Tensor:
        """Return each picture, followed by its ages, [N (K + 1), C, H, W]."""
        assert self.pictures is not None
        count = len(self.pictures.images)
        return interleave(self.pictures.images, *images.unflatten(0, (count, -1)).unbind(1))

    def kinds(self, module: GAN) -> Sequence[str]:
        return "picture", *module.classes

    def panels(self, module: GAN, inputs: Batch, columns: int | None) -> list[Panel]:
        names = [module.classes[own] for own in self.own.tolist()]
        framed = 1 + int(self.own[0]) if len(names) == 1 else None  # the reconstruction
        return [Panel(columns=columns, column_names=self.kinds(module), row_names=names, framed=framed)]

    def columns(self) -> dict[str, Sequence[Any]]:
        """Return those of `Project`, each face's age, and |z| / sqrt(d), which is near 1 in the prior N(0, I)."""
        assert self.result is not None and self.module is not None
        lengths = self.result.latents.square().mean(1).sqrt().tolist()
        return {**super().columns(), "age": [self.module.classes[own] for own in self.own.tolist()], "length": lengths}

    def _own_class(self, name: str) -> int:
        """Return the class of the age of the face in a picture."""
        assert self.module is not None
        if self.condition is not None:
            return int(requested_condition(self.module, self.condition, 1)[1])
        years = self.age
        if years is None:
            found = re.match(r"(\d{1,3})_", Path(name).name)
            if not found:
                raise UserError(f"mode.age= is missing: how old the person in {name} is, in years")
            years = int(found[1])
        return class_of(years, self.module.classes)


def class_of(years: int, classes: Sequence[str]) -> int:
    """Return the number of the class of an age.

    Args:
        years: the age.
        classes: names such as 0-18, 19-29 and 30+.

    Raises:
        UserError: none of the classes has this age.
    """
    for number, name in enumerate(classes):
        found = re.fullmatch(r"(\d+)(?:-(\d+)|\+)", name)
        if found and int(found[1]) <= years <= int(found[2] or 1000):
            return number
    raise UserError(
        f"mode.age={years}: none of the classes {', '.join(classes)} has this age; name one with condition="
    )

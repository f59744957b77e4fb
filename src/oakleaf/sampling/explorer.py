"""Single images of a generator by seed, direction, class, truncation and interpolation: what `explore.py` shows."""

from collections.abc import Sequence
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor

from oakleaf.errors import UserError
from oakleaf.figures.grid import draw_grid
from oakleaf.games import Batch
from oakleaf.gan import GAN
from oakleaf.image_grid import are_points
from oakleaf.sampling.conditions import requested_condition
from oakleaf.sampling.directions import Directions, principal_directions
from oakleaf.sampling.latents import latent_inputs, slerp
from oakleaf.sampling.named_directions import Direction

SIDE = 384  # pixels of the image that is shown, at least; it is enlarged by an integer factor
POINTS = 8  # latents at which directions are computed


class Explorer:
    """Draws one image at a time.

    Args:
        module: the generator's module, on its device.
        directions: number of principal directions.
        named: directions that directions.py has found; they come before the principal ones.

    Raises:
        UserError: the generator takes no latents, or makes no images.
    """

    def __init__(self, module: GAN, directions: int = 8, named: Sequence[Direction] = ()) -> None:
        self.module, self.count, self.named = module, directions, list(named)
        example = latent_inputs(module.game, 1, 0)
        if are_points(module.sample({name: rows.to(module.device) for name, rows in example.items()})):
            raise UserError("explore.py shows images, and this checkpoint's generator makes points")
        self.count = min(directions, width := example["latent"].shape[1])
        if wrong := [one.name for one in self.named if len(one.vector) != width]:
            raise UserError(f"directions.json: {wrong[0]} is no direction of latents of {width} numbers")

    @property
    def classes(self) -> list[str]:
        """Names of the classes that can be requested; empty without any."""
        condition = self.module.game.condition
        return list(self.module.classes) if condition and condition.classes else []

    @property
    def takes_text(self) -> bool:
        """Whether the generator is conditioned on texts."""
        condition = self.module.game.condition
        return condition is not None and condition.key == "caption"

    @cached_property
    def takes_truncation(self) -> bool:
        """Whether the samples can be truncated."""
        try:
            latent_inputs(self.module.game, 1, 0, truncation=0.5)
        except UserError:
            return False
        return True

    @cached_property
    def directions(self) -> Directions:
        """The principal directions, by the EMA generator; they are computed once."""
        inputs = latent_inputs(self.module.game, POINTS, seed=0)
        rows = {name: values[:1] for name, values in inputs.items() if name != "latent"}
        return principal_directions(lambda z: self._generate({**rows, "latent": z}, True), inputs["latent"], self.count)

    @property
    def vectors(self) -> Tensor:
        """All directions, the named ones first, [K, d]."""
        named = [one.vector[None] for one in self.named]
        return torch.cat([*named, self.directions.vectors])

    @property
    def labels(self) -> list[str]:
        """What each of `vectors` is called."""
        shares = [
            f"direction {k} ({share:.0%} of the change)" for k, share in enumerate(self.directions.shares.tolist(), 1)
        ]
        return [*(one.name for one in self.named), *shares]

    def _generate(self, inputs: Batch, ema: bool) -> Tensor:
        """Generate images of latents [B, d]; all other inputs have one row, which is repeated."""
        count = len(inputs["latent"])
        rows = {
            name: values if name == "latent" else values.expand(count, *values.shape[1:])
            for name, values in inputs.items()
        }
        return self.module.sample({name: values.to(self.module.device) for name, values in rows.items()}, ema)

    def image(
        self,
        seed: int,
        offsets: Sequence[float] = (),
        condition: int | str | None = None,
        truncation: float | None = None,
        other_seed: int = 0,
        weight: float = 0.0,
        ema: bool = True,
    ) -> Image.Image:
        """Draw the image of a seed.

        Args:
            seed: of the latent, as in `sample.py seeds=`.
            offsets: along each of `vectors`, in standard deviations of the latents.
            condition: a class by number or name, or a text; None: that of the seed.
            truncation: as in sample.py.
            other_seed: the latent of the other end of an interpolation.
            weight: of the other latent, from 0 to 1.
            ema: whether to use the EMA generator, if there is one.

        Raises:
            UserError: there is no such condition, or the samples cannot be truncated.
        """
        game = self.module.game
        inputs = latent_inputs(game, 1, seed, truncation)
        if game.condition:
            inputs[game.condition.key] = game.condition.rows_at(torch.tensor([seed]))
        if condition not in (None, ""):
            key, rows = requested_condition(self.module, condition, 1)  # type: ignore[arg-type]
            inputs[key] = rows
        z = inputs["latent"]
        if weight:
            z = slerp(z, latent_inputs(game, 1, other_seed, truncation)["latent"], weight)
        if any(offsets):
            z = z + torch.tensor(offsets)[None] @ self.vectors[: len(offsets)]
        picture = draw_grid(self._generate({**inputs, "latent": z}, ema).cpu(), captions=False)
        factor = max(1, SIDE // max(picture.size))
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)

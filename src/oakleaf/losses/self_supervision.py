"""Self-supervision of a discriminator that reconstructs real images from its inner maps."""

from typing import Literal

import torch
from torch import Tensor

from oakleaf.config.types import PositiveInt
from oakleaf.errors import UserError
from oakleaf.losses.terms import Term
from oakleaf.round import Round


class SelfSupervision(Term):
    """The distance between reconstructions of the real images, by the discriminator's decoders, and their targets.

    The images are augmented as for the critic. The distances of the discriminator's reconstructions are added, each a
    mean over images and values. The paper takes LPIPS on VGG-16; without such weights `frozen` may name a network of
    `model.frozen`, whose layers are compared in addition to the pixels.

    Args:
        distance: of pixels, squared or absolute.
        frozen: name of a frozen network; null: pixels alone.
        layers: names of its layers.
        weight, every: as for `Term`.

    Reference: Liu 2021, arXiv:2101.04775, eq. (4).
    """

    of_single_images = True

    def __init__(
        self,
        distance: Literal["squared", "absolute"] = "absolute",
        frozen: str | None = None,
        layers: tuple[str, ...] = (),
        weight: float = 1.0,
        every: PositiveInt = 1,
    ) -> None:
        super().__init__(weight, every)
        self.distance, self.frozen, self.layers = distance, frozen, list(layers)

    def measure(self, round: Round) -> Tensor:
        critic, x = round.critic, round.real
        network = critic.network
        if not hasattr(network, "reconstructions"):
            raise UserError("the discriminator reconstructs no images, which the term SelfSupervision needs")
        if critic.augment is not None:
            x, _ = critic.augmented(x, critic.condition)
        pairs = network.reconstructions(x)
        distances = [self._distance(found, target) for found, target in pairs]
        if self.frozen is not None:
            if self.frozen not in round.frozen:
                raise UserError(f"model.frozen.{self.frozen} is missing, which the term SelfSupervision needs")
            frozen = round.frozen[self.frozen]
            for found, target in pairs:
                ours, theirs = frozen(found, self.layers).maps, frozen(target, self.layers).maps
                distances += [self._distance(ours[name], theirs[name]) for name in self.layers]
        return torch.stack(distances).sum()

    def _distance(self, one: Tensor, other: Tensor) -> Tensor:
        difference = (one - other).float()
        return difference.square().mean() if self.distance == "squared" else difference.abs().mean()

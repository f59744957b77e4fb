"""Several augmentations one after the other."""

from collections.abc import Mapping

from torch import Tensor, nn

from oakleaf.augment.augmentation import Augmentation, Pair
from oakleaf.round import Round


class Chain(Augmentation):
    """Several augmentations, applied in their order: DiffAugment and noise, for example.

    The game updates the state of every module with a state by itself, so also that of the parts.

    Args:
        parts: the augmentations by name.
    """

    needs_images = False  # each part checks its own input

    def __init__(self, parts: Mapping[str, Augmentation]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Pair:
        for part in self.parts.values():
            images, condition = part(images, condition)
        return images, condition

    def augment(self, images: Tensor, condition: Tensor | None) -> Pair:
        return self(images, condition)  # type: ignore[no-any-return]

    def replace(self, round: Round) -> Round:
        for part in self.parts.values():
            round = part.replace(round)  # type: ignore[operator]
        return round

    def prepare(self, images: int) -> None:
        for part in self.parts.values():
            part.prepare(images)  # type: ignore[operator]

    def observe(self, round: Round, threshold: Tensor | float = 0.0) -> None:
        for part in self.parts.values():
            part.observe(round, threshold)  # type: ignore[operator]

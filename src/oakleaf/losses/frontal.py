"""Terms of generators that turn faces to the front (TP-GAN); all are means over values in [-1, 1]."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from oakleaf.config.types import PositiveInt
from oakleaf.errors import UserError
from oakleaf.losses.terms import Term
from oakleaf.networks.tp_gan import PARTS, cropped, frontal
from oakleaf.round import Round

SCALES = ("half", "quarter")


class ScaledL1(Term):
    """E |y - G(x)| of an image that the generator makes at a smaller size, against the real image of that size.

    Args:
        of: `half` or `quarter`, what the generator returns besides the image.
        weight, every: as for `Term`.

    Reference: Huang 2017, arXiv:1704.04086, eq. (4) and section 4.1.
    """

    def __init__(self, of: str, weight: float = 1.0, every: PositiveInt = 1) -> None:
        super().__init__(weight, every)
        if of not in SCALES:
            raise UserError(f"of={of}: the sizes are {' and '.join(SCALES)}")
        self.of = of

    def measure(self, round: Round) -> Tensor:
        image = _extra(round, self.of)
        return (image - interpolate(round.real, image.shape[2:], mode="area")).abs().mean()


class PartsL1(Term):
    """E |y - G(x)| of the parts of faces, which the local paths make, against the same parts of the real image.

    Reference: the authors' code HRLTY/TP-GAN.
    """

    def measure(self, round: Round) -> Tensor:
        parts = _extra(round, "parts")
        if not parts:
            raise UserError("the generator has no local paths: model.game.terms.generator.parts=null")
        real = round.real
        losses = [(image - cropped(real, frontal(PARTS[n], real), PARTS[n])).abs().mean() for n, image in parts.items()]
        return torch.stack(losses).mean()


class Symmetry(Term):
    """The distance of a face's hidden half from the mirror image of its visible half, which gets no gradient.

    The visible half is the left one of the picture, as `data/input=turned` makes it. Without the stop the good half
    would be drawn to the bad one.

    Args:
        of: `image`, compared after its size is halved, or `half` or `quarter`.
        weight, every: as for `Term`.

    Reference: Huang 2017, arXiv:1704.04086, eq. (5); the stop is in the authors' code.
    """

    def __init__(self, of: str = "image", weight: float = 1.0, every: PositiveInt = 1) -> None:
        super().__init__(weight, every)
        if of not in ("image", *SCALES):
            raise UserError(f"of={of}: the sizes are image, {' and '.join(SCALES)}")
        self.of = of

    def measure(self, round: Round) -> Tensor:
        image = interpolate(round.fake, scale_factor=0.5, mode="area") if self.of == "image" else _extra(round, self.of)
        half = image.shape[3] // 2
        return (image[..., :half].detach() - image.flip(3)[..., :half]).abs().mean()


class TotalVariation(Term):
    """The mean absolute difference of neighbouring pixels of generated images, down plus right.

    Reference: Huang 2017, arXiv:1704.04086, eq. (9).
    """

    def measure(self, round: Round) -> Tensor:
        return round.fake.diff(dim=2).abs().mean() + round.fake.diff(dim=3).abs().mean()


class FeatureClassification(Term):
    """Cross-entropy of the persons, read from the generator's own features by a linear layer that it trains as well.

    Args:
        features: length of the feature vector.
        persons: their number; the row `identity` of the data has numbers below it, and -1 for unknown ones.
        dropout: share of the features that are dropped.
        weight, every: as for `Term`.

    Reference: the authors' code HRLTY/TP-GAN: weight 10, dropout .7.
    """

    def __init__(
        self,
        features: PositiveInt,
        persons: PositiveInt,
        dropout: float = 0.7,
        weight: float = 1.0,
        every: PositiveInt = 1,
    ) -> None:
        super().__init__(weight, every)
        self.layers = nn.Sequential(nn.Dropout(dropout), nn.Linear(features, persons))

    def measure(self, round: Round) -> Tensor:
        if "identity" not in round.batch:
            raise UserError("the data have no persons (the row `identity`), which FeatureClassification needs")
        person = round.batch["identity"]
        total = cross_entropy(self.layers(_extra(round, "features")), person, ignore_index=-1, reduction="sum")
        return total / (person >= 0).sum().clamp(min=1)


def _extra(round: Round, name: str) -> Any:
    """Return what the generator returned besides the image."""
    if name not in round.extras:
        raise UserError(f"the generator returns no `{name}`, which a term needs; model=tp_gan does")
    return round.extras[name]

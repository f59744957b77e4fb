"""Terms that compare images by what a frozen network sees in them."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from oakleaf.config.types import PositiveInt
from oakleaf.errors import UserError
from oakleaf.frozen.network import FrozenNetwork
from oakleaf.frozen.tasks import LOSSES, label_loss
from oakleaf.losses.terms import Term
from oakleaf.round import Round


class _FrozenTerm(Term):
    """A term that reads a frozen network of the game, `model.frozen.<network>`.

    Args:
        network: its name.
        weight, every: as for `Term`.
    """

    of_single_images = True

    def __init__(self, network: str, weight: float = 1.0, every: PositiveInt = 1) -> None:
        super().__init__(weight, every)
        self.network = network

    def frozen(self, round: Round) -> FrozenNetwork:
        """Return the frozen network.

        Raises:
            UserError: the model has none of that name.
        """
        if self.network not in round.frozen:
            names = ", ".join(round.frozen) or "none"
            raise UserError(f"model.frozen.{self.network} is missing, which a term needs; the model has {names}")
        return round.frozen[self.network]  # type: ignore[return-value]

    def reference(self, round: Round, compared_with: str) -> Tensor:
        """Return the images that the fakes are compared with.

        Args:
            round: the round.
            compared_with: `real` for the real images, or `input` for the images that the fakes were translated from.

        Raises:
            UserError: the fakes were not translated from images.
        """
        if compared_with == "real":
            return round.real
        found = round.fake_inputs.get("input", getattr(round, "x", None))
        if found is None:
            raise UserError("compared_with=input: the generator of this model does not translate input images")
        return found


class Perceptual(_FrozenTerm):
    """The distance between layers of a frozen network for the fake and the real image of the same row.

    For each layer it is the mean over all values of the layer, |phi(G) - phi(x)|^2 / (C H W); the layers' distances are
    added. It needs a game in which fake and real images belong together: translation, or a `Code` condition.

    Args:
        network: the name of the frozen network.
        layers: the names of its layers.
        distance: squared, or absolute differences.
        unit: scale the C channels at each place to length 1 before the comparison, so that layers with large values do
            not dominate (Zhang 2018, arXiv:1801.03924, section 3).
        compared_with: `real`, or `input`, the images that a translating generator gets.
        weight, every: as for `Term`.

    Reference: Johnson 2016, arXiv:1603.08155, eq. (2); Dosovitskiy 2016, arXiv:1602.02644, eq. (3).
    """

    def __init__(
        self,
        network: str,
        layers: Sequence[str],
        distance: Literal["squared", "absolute"] = "squared",
        unit: bool = False,
        compared_with: Literal["real", "input"] = "real",
        weight: float = 1.0,
        every: PositiveInt = 1,
    ) -> None:
        super().__init__(network, weight, every)
        if not layers:
            raise UserError(f"layers is empty: name layers of model.frozen.{network}")
        self.layers, self.distance, self.unit, self.compared_with = list(layers), distance, unit, compared_with

    def measure(self, round: Round) -> Tensor:
        return self.distances(self.frozen(round), round.fake, self.reference(round, self.compared_with)).mean()

    def distances(self, network: FrozenNetwork, images: Tensor, targets: Tensor) -> Tensor:
        """Return the distance of each image from its target, before the weight.

        Args:
            network: the frozen network.
            images: [B, C, H, W] in [-1, 1].
            targets: images of the same shape; no gradient is computed for them.

        Returns:
            [B].
        """
        with torch.no_grad():
            target = network(targets, self.layers).maps
        found = network(images, self.layers).maps
        return torch.stack([self._distance(found[name], target[name]) for name in self.layers]).sum(0)

    def _distance(self, one: Tensor, other: Tensor) -> Tensor:
        if self.unit:
            one, other = (normalize(maps, dim=1, eps=1e-10) for maps in (one, other))
        difference = (one - other).flatten(1)
        return difference.square().mean(1) if self.distance == "squared" else difference.abs().mean(1)


class SameIdentity(_FrozenTerm):
    """The distance between the embeddings of the fake and the real image of the same row, such as those of a face.

    Args:
        network: the name of the frozen network.
        distance: `cosine`, 1 - cos of the angle between the embeddings; `squared` or `absolute`, the squared Euclidean
            length or the sum of the absolute values of their difference.
        compared_with: `real`, or `input`, the images that a translating generator gets.
        weight, every: as for `Term`.

    Reference: Huang 2017 (TP-GAN), arXiv:1704.04086, eq. (8); Antipov 2017 (Age-cGAN), arXiv:1702.01983, eq. (2).
    """

    def __init__(
        self,
        network: str,
        distance: Literal["cosine", "squared", "absolute"] = "cosine",
        compared_with: Literal["real", "input"] = "real",
        weight: float = 1.0,
        every: PositiveInt = 1,
    ) -> None:
        super().__init__(network, weight, every)
        self.distance, self.compared_with = distance, compared_with

    def measure(self, round: Round) -> Tensor:
        return self.distances(self.frozen(round), round.fake, self.reference(round, self.compared_with)).mean()

    def distances(self, network: FrozenNetwork, images: Tensor, targets: Tensor) -> Tensor:
        """Return the distance of each image from its target, before the weight; as `Perceptual.distances`."""
        with torch.no_grad():
            target = require_part(network(targets).embedding, network, "embedding")
        found = require_part(network(images).embedding, network, "embedding")
        if self.distance == "cosine":
            return 1 - cosine_similarity(found, target, dim=1)
        difference = found - target
        return (difference.square() if self.distance == "squared" else difference.abs()).sum(1)


class Recognised(_FrozenTerm):
    """The loss of a frozen network that should recognise the fakes' condition in them.

    It is the cross-entropy in nats of classes (`label`), the mean binary cross-entropy of `attributes`, or the ordinal
    loss of `age`, each over the images whose row is known.

    Args:
        network: the name of the frozen network.
        key: the row of the condition that the logits are compared with.
        weight, every: as for `Term`.

    Reference: Odena 2016, arXiv:1610.09585, eq. (2), with a classifier of its own.
    """

    def __init__(self, network: str, key: str = "label", weight: float = 1.0, every: PositiveInt = 1) -> None:
        super().__init__(network, weight, every)
        self.key = key

    def measure(self, round: Round) -> Tensor:
        network = self.frozen(round)
        if self.key not in round.fake_inputs:
            names = ", ".join(name for name in round.fake_inputs if name != "latent") or "none"
            raise UserError(f"key={self.key}: the fakes of this model have no such condition; they have {names}")
        logits = require_part(network(round.fake).logits, network, "logits")
        return LOSSES.get(self.key, label_loss)(logits, round.fake_inputs[self.key])


def require_part(part: Tensor | None, network: FrozenNetwork, name: str) -> Tensor:
    """Return a part of a `FrozenOutput` that a term needs.

    Raises:
        UserError: the network does not have it.
    """
    if part is None:
        raise UserError(f"the frozen network {network.source} has no {name}, which a term needs")
    return part

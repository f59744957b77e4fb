"""The contrastive term of one-sided unpaired translation."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from oakleaf.config.types import NonNegativeInt, PositiveFloat, PositiveInt
from oakleaf.errors import UserError
from oakleaf.losses.terms import Term
from oakleaf.round import Round, generator_output


class PatchNCE(Term):
    """The contrast of patches: a patch of G(x) should resemble the patch of x at its place more than x's other patches.

    At random places, the same for all images of a batch, the maps of G's own first layers go through a perceptron for
    each layer and are scaled to length 1. The term is the mean over layers and places of the cross-entropy in nats of
    finding the right one of x's patches by the inner products divided by the temperature. No gradient flows through the
    patches of x. The perceptrons are parameters of the term, so the generator's optimizer trains them.

    Args:
        layers: numbers of layers of G; its method `features` returns their outputs.
        channels: of those layers' outputs.
        patches: places, at most as many as a map has.
        width: units of the perceptrons.
        temperature: tau.
        identity: take the mean of this and the same for G(y) and real images y of the target domain, so that G keeps
            them (eq. (5), second term). It needs images and inputs with the same channels.
        weight, every: as for `Term`.

    Reference: Park 2020 (CUT), arXiv:2007.15651, eq. (3) to (5) and appendix C.
    """

    of_single_images = True

    def __init__(
        self,
        layers: Sequence[NonNegativeInt],
        channels: Sequence[PositiveInt],
        patches: PositiveInt = 256,
        width: PositiveInt = 256,
        temperature: PositiveFloat = 0.07,
        identity: bool = True,
        weight: float = 1.0,
        every: PositiveInt = 1,
    ) -> None:
        super().__init__(weight, every)
        if not layers or len(layers) != len(channels):
            raise UserError(f"layers={list(layers)}: name layers of the generator, and as many channels")
        self.layers, self.patches, self.temperature, self.identity = list(layers), patches, temperature, identity
        self.heads = nn.ModuleList(
            [nn.Sequential(nn.Linear(each, width), nn.ReLU(), nn.Linear(width, width)) for each in channels]
        )
        for head in self.heads.modules():
            if isinstance(head, nn.Linear):
                nn.init.normal_(head.weight, 0.0, 0.02)
                nn.init.zeros_(head.bias)

    def measure(self, round: Round) -> Tensor:
        generator = round.networks["generator"]
        if "input" not in round.fake_inputs or not hasattr(generator, "features"):
            raise UserError("PatchNCE needs a generator that translates and has a method features, as model=cut")
        loss = self.contrast(generator, round.fake, round.fake_inputs["input"])
        if not self.identity:
            return loss
        if round.real.shape[1] != round.fake_inputs["input"].shape[1]:
            raise UserError(
                "the identity part of PatchNCE needs images and inputs with the same channels: "
                "model.game.terms.generator.nce.identity=false, or data.channels=3 data.input_channels=3"
            )
        same = generator_output(generator(round.real)).image
        return 0.5 * (loss + self.contrast(generator, same, round.real))

    def contrast(self, generator: nn.Module, images: Tensor, originals: Tensor) -> Tensor:
        """Return the cross-entropy of the patches of images among those of the originals, a tensor []."""
        with torch.no_grad():
            keys = generator.features(originals, self.layers)  # type: ignore[operator]
        queries = generator.features(images, self.layers)  # type: ignore[operator]
        losses = []
        for head, query, key in zip(self.heads, queries, keys):
            places = torch.randperm(query.shape[2] * query.shape[3], device=query.device)[: self.patches]
            one, other = (_at(maps, places) for maps in (query, key))
            with torch.no_grad():
                other = normalize(head(other), dim=2, eps=1e-7)
            one = normalize(head(one), dim=2, eps=1e-7)
            logits = torch.bmm(one, other.transpose(1, 2)).float() / self.temperature  # [B, P, P]
            target = torch.arange(len(places), device=logits.device).expand(len(logits), -1)
            losses.append(cross_entropy(logits.flatten(0, 1), target.flatten()))
        return torch.stack(losses).mean()


def _at(maps: Tensor, places: Tensor) -> Tensor:
    """Return the values of maps [B, C, h, w] at places [P], as [B, P, C]."""
    return maps.flatten(2)[:, :, places].transpose(1, 2)

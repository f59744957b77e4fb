"""Adaptive pseudo augmentation: some real images are exchanged for fakes."""

from copy import copy

import torch
from torch import Tensor

from oakleaf.augment.adaptive import WithProbability
from oakleaf.augment.augmentation import Pair
from oakleaf.config.types import PositiveInt, Probability
from oakleaf.round import Round


class APA(WithProbability):
    """Adaptive pseudo augmentation: in the critic's step a real image is replaced by a fake with probability p.

    The images themselves are not changed. p follows r_t as in ADA, measured on the real images with the exchanged ones
    among them.

    The fakes are those of the same step, each in the place of the real image that has its condition; without a
    condition each fake takes the next image's place, so that it is not compared with itself by a relativistic loss.
    The authors' code takes fakes of the generator's last step, and gives them the condition of the image they replace.

    Args:
        p: the probability at the beginning if `adaptive`, else throughout.
        target: r_t at which p stays.
        images: images after which p has moved by 1.
        interval: steps of the critic between two changes of p.
        adaptive: whether p follows r_t.

    Reference: Jiang 2021, arXiv:2111.06849, section 3.2 and 3.3.
    """

    needs_images = False

    def __init__(
        self,
        p: Probability = 0.0,
        target: float = 0.6,
        images: PositiveInt = 500_000,
        interval: PositiveInt = 4,
        adaptive: bool = True,
    ) -> None:
        super().__init__(p, target, images, interval, adaptive)

    def augment(self, images: Tensor, condition: Tensor | None) -> Pair:
        return images, condition

    def replace(self, round: Round) -> Round:
        conditioned = bool(set(round.batch) & set(round.fake_inputs))
        fake = round.fake.detach() if conditioned else round.fake.detach().roll(1, 0)
        mask = self.chosen(len(round.real)).view(-1, *[1] * (round.real.dim() - 1))
        changed = copy(round)
        changed.real = torch.where(mask, fake.to(round.real.dtype), round.real)
        return changed

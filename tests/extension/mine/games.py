"""A game: how one batch becomes rounds of real against generated images."""

import torch
from torch import Tensor

from oakleaf.games import Generation
from oakleaf.round import Round


class MixedPairs(Generation):
    """Let a critic also score means of two real images against means of two generated ones.

    Reference: Zhang 2017 (mixup), arXiv:1710.09412, section 3.4, in which the two sides are mixed with each other.
    """

    def rounds_for(self, player: str, rounds: list[Round]) -> list[Round]:
        if self.roles[player] != "critic":
            return rounds
        return [*rounds, *(Round(mixed(round.real), mixed(round.fake), round.critic) for round in rounds)]


def mixed(images: Tensor) -> Tensor:
    """Return the mean of each image and the next one."""
    return torch.lerp(images, images.roll(1, 0), 0.5)

"""Constraints on the discriminator's weights, applied after each of its steps."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from oakleaf.config.types import PositiveFloat


@dataclass
class WeightClipping:
    """Clip every weight to [-limit, limit].

    Args:
        limit: c of the paper.

    Reference: Arjovsky 2017, arXiv:1701.07875, Algorithm 1, line 7.
    """

    limit: PositiveFloat = 0.01

    @torch.no_grad()
    def __call__(self, critic: nn.Module) -> None:
        for weight in critic.parameters():
            weight.clamp_(-self.limit, self.limit)

    def project(self, weight: Tensor) -> Tensor:
        """Return one clipped weight; the differentiable form, for unrolled optimisation."""
        return weight.clamp(-self.limit, self.limit)

"""A Loss: the adversarial objective and everything that belongs to it, whatever the networks are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from oakleaf.config.types import NonNegativeFloat, PositiveFloat, PositiveInt
from oakleaf.losses.constraints import WeightClipping
from oakleaf.losses.objectives import Objective
from oakleaf.losses.terms import Term
from oakleaf.round import Critic, CriticOutput, Round


@dataclass
class InstanceNoise:
    """Gaussian noise on all that the critic sees, so that the two densities overlap (Sonderby 2016, arXiv:1610.04490,
    section 3; Arjovsky & Bottou 2017, arXiv:1701.04862).

    sd is in units of the images' range [-1, 1]; it falls to 0 at `images` images seen, linearly or, with a higher
    `power`, slower and slower towards the end; or stays if `images` is null.
    """

    sd: NonNegativeFloat = 0.0
    images: PositiveInt | None = None
    power: PositiveFloat = 1.0

    def sd_at(self, images: int) -> float:
        return self.sd if self.images is None else self.sd * max(0.0, 1 - images / self.images) ** self.power


def with_instance_noise(round: Round, sd: Tensor) -> Round:
    """The round with noise drawn afresh at each look of its critic."""
    round.critic = _NoisyCritic(round.critic, sd)
    return round


class _NoisyCritic:
    def __init__(self, critic: Critic, sd: Tensor) -> None:
        self.critic, self.sd = critic, sd

    def __call__(self, x: Tensor) -> CriticOutput:
        return self.critic(x + self.sd * torch.randn_like(x))


@dataclass
class Loss:
    """The pair of adversarial losses, the critic's penalties by name, and the constraints on its weights.

    norm says which normalisation of the critic the loss allows; networks read it by interpolation (`${loss.norm}`).
    A penalty on each sample's gradient is not defined where BatchNorm mixes the samples (Gulrajani 2017,
    arXiv:1704.00028, section 4).
    """

    name: str
    objective: Objective
    norm: Literal["batch", "layer", "instance", "spectral", "none"] = "batch"
    penalties: Mapping[str, Term] = field(default_factory=dict)
    constraints: Mapping[str, WeightClipping] = field(default_factory=dict)
    instance_noise: InstanceNoise = field(default_factory=InstanceNoise)

    def project(self, weight: Tensor) -> Tensor:
        """A weight of the critic after its constraints, differentiably."""
        for constraint in self.constraints.values():
            weight = constraint.project(weight)
        return weight

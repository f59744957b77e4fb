"""The Loss: an adversarial objective with its penalties, constraints and instance noise."""

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
    """Gaussian noise on every image that the discriminator sees, so that the supports of the two densities overlap.

    Args:
        sd: standard deviation at the beginning, in units of the images' range [-1, 1]; 0 for no noise.
        images: images seen until the noise has fallen to 0; None for constant noise.
        power: shape of the decay: 1 is linear; larger values decay faster first and slower towards the end.

    Reference: Sonderby 2016, arXiv:1610.04490, section 3; Arjovsky & Bottou 2017, arXiv:1701.04862.
    """

    sd: NonNegativeFloat = 0.0
    images: PositiveInt | None = None
    power: PositiveFloat = 1.0

    def sd_at(self, images: int) -> float:
        """Return the standard deviation after `images` images."""
        return self.sd if self.images is None else self.sd * max(0.0, 1 - images / self.images) ** self.power


def with_instance_noise(round: Round, sd: Tensor) -> Round:
    """Add noise to all inputs of the round's critic, drawn anew for each forward pass. Changes the round in place."""
    round.critic = _NoisyCritic(round.critic, sd)
    return round


class _NoisyCritic:
    def __init__(self, critic: Critic, sd: Tensor) -> None:
        self.critic, self.sd = critic, sd

    def __call__(self, x: Tensor) -> CriticOutput:
        return self.critic(x + self.sd * torch.randn_like(x))


@dataclass
class Loss:
    """An adversarial loss and everything that belongs to it, whatever the networks are.

    Args:
        name: its name, for messages and reports.
        objective: the losses of discriminator and generator.
        norm: the normalisation that the discriminator may use with this loss. Networks read it as `${loss.norm}`. A
            penalty on each image's gradient is not defined where BatchNorm mixes the images (Gulrajani 2017,
            arXiv:1704.00028, section 4).
        penalties: terms of the discriminator that belong to the loss, by name.
        constraints: constraints on the discriminator's weights, by name.
        instance_noise: noise on the discriminator's inputs.
    """

    name: str
    objective: Objective
    norm: Literal["batch", "layer", "instance", "spectral", "none"] = "batch"
    penalties: Mapping[str, Term] = field(default_factory=dict)
    constraints: Mapping[str, WeightClipping] = field(default_factory=dict)
    instance_noise: InstanceNoise = field(default_factory=InstanceNoise)

    def project(self, weight: Tensor) -> Tensor:
        """Return a weight of the discriminator after all constraints, differentiably."""
        for constraint in self.constraints.values():
            weight = constraint.project(weight)
        return weight

"""Penalties on the gradient of the critic: WGAN-GP, R1, R2 and DRAGAN are one class, four settings."""

from typing import Literal

import torch
from torch import Tensor

from oakleaf.config.types import NonNegativeFloat, PositiveInt
from oakleaf.losses.terms import Term
from oakleaf.round import Critic, Round, output_and_input_gradient

Point = Literal["real", "fake", "between", "around"]


class GradientPenalty(Term):
    """weight * E[(|grad_x D(x)| - target)^2], the norm taken over all of C, H, W of each sample.

    at = between: uniformly on the line from each real image to a fake one, one weight a sample; with target 1 and
        weight 10 the penalty of WGAN-GP (Gulrajani 2017, arXiv:1704.00028, eq. (3) and Algorithm 1).
    at = real, target 0, weight gamma / 2: R1 (Mescheder 2018, arXiv:1801.04406, section 4.1).
    at = fake, target 0, weight gamma / 2: R2 (the same).
    at = around, target 1: real images with noise of half the batch's standard deviation, DRAGAN (Kodali 2017,
        arXiv:1705.07215, section 2.3).
    """

    def __init__(self, at: Point, weight: float, target: NonNegativeFloat = 0.0, every: PositiveInt = 1) -> None:
        super().__init__(weight, every)
        self.at, self.target = at, target

    def prepare(self, round: Round) -> None:
        """At real or fake images themselves the slope is taken from the verdict that the objective asks for anyway."""
        if self.at in ("real", "fake"):
            round.retain_input_gradient(self.at)

    def measure(self, round: Round) -> Tensor:
        gradient = self.gradient(round).flatten(1).float()  # [B, C*H*W]
        if self.target == 0:
            return gradient.square().sum(1).mean()  # no square root: its own gradient is infinite at 0
        return (gradient.norm(2, dim=1) - self.target).square().mean()

    def gradient(self, round: Round) -> Tensor:
        """grad_x D(x) where it is penalised, [B, C, H, W]."""
        prepared = round.input_gradient(self.at)
        return input_gradient(round.critic, self.points(round)) if prepared is None else prepared

    def points(self, round: Round) -> Tensor:
        """Where the slope is taken, [B, C, H, W]."""
        real, fake = round.real, round.fake
        if self.at == "real":
            return real
        if self.at == "fake":
            return fake
        share = torch.rand(len(real), *[1] * (real.dim() - 1), device=real.device, dtype=real.dtype)
        if self.at == "between":
            return torch.lerp(real, fake.to(real.dtype), share)  # autocast leaves fakes in bfloat16
        return real + share * 0.5 * real.std() * torch.rand_like(real)


def input_gradient(critic: Critic, x: Tensor) -> Tensor:
    """The gradient of each sample's score with respect to the sample, [B, C, H, W], itself differentiable."""
    return output_and_input_gradient(critic, x)[1]

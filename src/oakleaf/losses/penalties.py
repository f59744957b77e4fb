"""Gradient penalties of the discriminator. WGAN-GP, R1, R2 and DRAGAN are one class with four settings."""

import math
from typing import Literal

import torch
from torch import Tensor

from oakleaf.config.types import NonNegativeFloat, PositiveFloat, PositiveInt
from oakleaf.errors import UserError
from oakleaf.losses.terms import Term
from oakleaf.round import BoundCritic, Round, output_and_input_gradient

Point = Literal["real", "fake", "between", "around"]


class GradientPenalty(Term):
    """Penalise the norm of the discriminator's gradient with respect to its input.

    The term is `weight * E[(||grad_x D(x)|| - target)^2]`; the norm is taken over all of C, H, W of each image. At the
    real or fake images themselves the gradient comes from the forward pass that the objective needs anyway
    (`Round.retain_input_gradient`).

    Args:
        at: where the gradient is taken.
            "real" with target 0 and weight gamma / 2 is R1 (Mescheder 2018, arXiv:1801.04406, section 4.1).
            "fake" with the same settings is R2.
            "between" takes one uniform point on the line from each real image to a fake one; with target 1 and weight
            10 it is the penalty of WGAN-GP (Gulrajani 2017, arXiv:1704.00028, eq. (3) and Algorithm 1).
            "around" adds uniform noise of half the batch's standard deviation to real images; with target 1 it is
            DRAGAN (Kodali 2017, arXiv:1705.07215, section 2.3).
        weight: factor of the term.
        target: norm that is not penalised.
        every: compute the term in every n-th step, n times as heavy.
    """

    def __init__(self, at: Point, weight: float, target: NonNegativeFloat = 0.0, every: PositiveInt = 1) -> None:
        super().__init__(weight, every)
        self.at, self.target = at, target

    def prepare(self, round: Round) -> None:
        if self.at in ("real", "fake"):
            round.retain_input_gradient(self.at)

    def measure(self, round: Round) -> Tensor:
        gradient = self.gradient(round).flatten(1).float()  # [B, C*H*W]
        if self.target == 0:
            return gradient.square().sum(1).mean()  # without a square root, whose own gradient is infinite at 0
        return (gradient.norm(2, dim=1) - self.target).square().mean()

    def gradient(self, round: Round) -> Tensor:
        """Return grad_x D(x) at the penalised points, [B, C, H, W]."""
        retained = round.input_gradient(self.at)
        return input_gradient(round.critic, self.points(round)) if retained is None else retained

    def points(self, round: Round) -> Tensor:
        """Return the points where the gradient is taken, [B, C, H, W]."""
        real, fake = round.real, round.fake
        if self.at == "real":
            return real
        if self.at == "fake":
            return fake
        share = torch.rand(len(real), *[1] * (real.dim() - 1), device=real.device, dtype=real.dtype)
        if self.at == "between":
            return torch.lerp(real, fake.to(real.dtype), share)  # autocast leaves fakes in bfloat16
        return real + share * 0.5 * real.std() * torch.rand_like(real)


def input_gradient(critic: BoundCritic, x: Tensor) -> Tensor:
    """Return the gradient of each score with respect to its image, [B, C, H, W], itself differentiable."""
    return output_and_input_gradient(critic, x)[1]


class FiniteDifferencePenalty(Term):
    """R1 or R2 from differences of scores in place of gradients, which needs no double backward pass.

    With normal noise e, (D(x + sd e) - D(x))^2 / sd^2 has the mean |grad_x D(x)|^2 + O(sd^2), since E[(e . g)^2] =
    |g|^2. So the weight is that of `GradientPenalty`: gamma / 2. The estimate of one image has a standard deviation of
    sqrt(2) times its mean.

    The images are augmented first and the noise is added to the augmented images, so that both scores are of the same
    view. The scores are computed without autocast, because bfloat16 rounds such differences away.

    Args:
        at: "real" (R1) or "fake" (R2).
        weight: factor of the term.
        sd: standard deviation of the noise, where images are in [-1, 1].
        share: part of the batch that it is computed for.
        every: compute the term in every n-th step, n times as heavy.

    Reference: Lin 2025, arXiv:2501.08316 (APT), section 3.3, without the division by sd^2; with it, and a quarter of
    the batch, in the code of arXiv:2511.22475.
    """

    def __init__(
        self,
        at: Literal["real", "fake"],
        weight: float,
        sd: PositiveFloat = 0.01,
        share: PositiveFloat = 0.25,
        every: PositiveInt = 1,
    ) -> None:
        super().__init__(weight, every)
        if share > 1:
            raise UserError(f"share={share}: the part of the batch has to be above 0 and at most 1")
        self.at, self.sd, self.share = at, sd, share

    def measure(self, round: Round) -> Tensor:
        images = round.real if self.at == "real" else round.fake
        count = max(1, math.ceil(self.share * len(images)))
        critic, x = round.critic, images[:count].detach()
        y = None if critic.condition is None else critic.condition[:count]
        if critic.augment is not None:
            x, y = critic.augmented(x, y)
        with torch.autocast(x.device.type, enabled=False):
            plain, x = critic.changed(augment=None, condition=y), x if x.dtype == torch.float64 else x.float()
            noise = torch.randn_like(x)
            difference = plain(x + self.sd * noise).score - plain(x).score
        return (difference.reshape(len(x), -1).sum(1) / self.sd).square().mean()

"""How a player learns: its optimizer, how often it plays, its schedules and its clipping."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import nn
from torch.optim import Optimizer

from oakleaf.config.suggest import unknown_key_message
from oakleaf.config.types import Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from oakleaf.errors import UserError


class Schedule(Protocol):
    """A course for one of the optimizer's numbers: from its configured value to what it is after `images` images."""

    def __call__(self, base: float, images: int) -> float: ...


@dataclass
class Linear:
    """Stays for `after` images, then goes in a straight line to `to`, reached `over` images later."""

    to: NonNegativeFloat
    over: PositiveInt
    after: int = 0

    def __call__(self, base: float, images: int) -> float:
        share = min(max((images - self.after) / self.over, 0.0), 1.0)
        return base + (self.to - base) * share


@dataclass
class Cosine:
    """Half a cosine from the configured value to `to`, reached after `over` images (R3GAN's burn-in, Huang 2024,
    arXiv:2501.05441)."""

    to: NonNegativeFloat
    over: PositiveInt

    def __call__(self, base: float, images: int) -> float:
        share = min(images / self.over, 1.0)
        return self.to + (base - self.to) * (1 + math.cos(math.pi * share)) / 2


@dataclass
class Exponential:
    """Stays for `after` images, then is divided by `divisor` for every `each` images (one batch, say), but not below
    `floor`."""

    divisor: PositiveFloat
    each: PositiveInt
    floor: NonNegativeFloat = 0.0
    after: NonNegativeInt = 0

    def __call__(self, base: float, images: int) -> float:
        return max(base * self.divisor ** -(max(images - self.after, 0) // self.each), self.floor)


@dataclass
class Player:
    """How one player learns.

    optimizer: weights, lr -> Optimizer; a `_partial_` of any class of torch.optim.
    lr: learning rate. every: plays on each every-th batch, so the generator's `every` is the k of Goodfellow 2014,
    Algorithm 1, and each step of the critic sees a fresh batch. clip: largest norm of the whole gradient, or null.
    unrolled: how many steps of the discriminator it looks ahead, with gradient through them (`oakleaf.optim.unrolled`).
    schedules: courses by the name of the optimizer's number (lr, momentum, weight_decay, ...).
    """

    optimizer: Callable[..., Optimizer]
    lr: PositiveFloat
    every: PositiveInt = 1
    clip: PositiveFloat | None = None
    unrolled: NonNegativeInt = 0
    schedules: Mapping[str, Schedule] = field(default_factory=dict)

    def build(self, network: nn.Module) -> Optimizer:
        """Raises:
        UserError: a number that the optimizer refuses, or a schedule for one that it does not have.
        """
        try:
            optimizer = self.optimizer(list(network.parameters()), lr=self.lr)
        except (ValueError, TypeError) as error:
            raise UserError(f"optim: {error}") from error
        for name in self.schedules:
            if not isinstance(optimizer.defaults.get(name), (int, float)):
                raise UserError(unknown_key_message(f"optim.schedules.{name}", _numbers(optimizer)))
        return optimizer

    def apply_schedule(self, optimizer: Optimizer, images: int) -> None:
        """Set the scheduled numbers for this step. A function of images seen alone, so nothing has to be resumed."""
        for group in optimizer.param_groups:
            for name, curve in self.schedules.items():
                group[name] = curve(optimizer.defaults[name], images)

    def clip_(self, gradients: list[torch.Tensor], norm: torch.Tensor) -> None:
        """Scale gradients of this norm down to the norm `clip`."""
        if self.clip is not None:
            torch._foreach_mul_(gradients, torch.clamp(self.clip / (norm + 1e-6), max=1.0))

    def clipped(self, gradients: list[torch.Tensor]) -> list[torch.Tensor]:
        """The same as a differentiable function."""
        if self.clip is None:
            return gradients
        share = torch.clamp(self.clip / (total_norm(gradients) + 1e-6), max=1.0)
        return [gradient * share for gradient in gradients]


def total_norm(gradients: list[torch.Tensor]) -> torch.Tensor:
    """L2 norm of all of them together, which are of one device and one dtype: torch's own `get_total_norm` sorts them
    first, which takes longer than the norm of a small network."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))) if gradients else torch.zeros(())


def _numbers(optimizer: Optimizer) -> list[str]:
    return [name for name, value in optimizer.defaults.items() if isinstance(value, float)]


def adam(
    weights: Iterable[nn.Parameter],
    lr: PositiveFloat,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegativeFloat = 0.0,
) -> Optimizer:
    """torch's Adam in its fused form, with betas made floats: torch >= 2.6 refuses `[0, 0.99]`."""
    first, second = map(float, betas)
    return torch.optim.Adam(weights, lr=lr, betas=(first, second), eps=eps, weight_decay=weight_decay, fused=True)


def sgd(
    weights: Iterable[nn.Parameter],
    lr: PositiveFloat,
    momentum: Fraction = 0.0,
    weight_decay: NonNegativeFloat = 0.0,
    nesterov: bool = False,
) -> Optimizer:
    """torch's SGD in its fused form. Its momentum begins with zeros: torch's own is what lay in memory if the first
    step is left out on a GPU (`NonFiniteGuard`)."""
    weights = list(weights)
    optimizer = torch.optim.SGD(
        weights, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, fused=True
    )
    for weight in weights:
        optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    return optimizer

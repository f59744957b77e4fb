"""How one network is updated: optimizer, learning rate, frequency, clipping and schedules."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.optim import Optimizer

from oakleaf import compat
from oakleaf.config.suggest import unknown_key_message
from oakleaf.config.types import NonNegativeInt, PositiveFloat, PositiveInt
from oakleaf.errors import UserError
from oakleaf.optim.schedules import Schedule


@dataclass
class Player:
    """The settings by which one network is updated.

    Args:
        optimizer: makes an optimizer from parameters and `lr`; a `_partial_` of any class of `torch.optim`.
        lr: learning rate.
        every: update this network on every n-th batch only. The generator's `every` is the k (n_critic) of
            Goodfellow 2014, arXiv:1406.2661, Algorithm 1: the discriminator then takes k steps, each on a fresh batch.
        clip: largest norm of the whole gradient; None for no clipping.
        unrolled: steps of the discriminator that this player's loss is unrolled through (`oakleaf.optim.unrolled`).
        schedules: schedules by the name of the optimizer's number (lr, momentum, weight_decay, ...).
    """

    optimizer: Callable[..., Optimizer]
    lr: PositiveFloat
    every: PositiveInt = 1
    clip: PositiveFloat | None = None
    unrolled: NonNegativeInt = 0
    schedules: Mapping[str, Schedule] = field(default_factory=dict)

    def build(self, network: nn.Module) -> Optimizer:
        """Build the optimizer of a network.

        Raises:
            UserError: the optimizer refuses a number, or does not have a number that is scheduled.
        """
        try:
            optimizer = self.optimizer(list(network.parameters()), lr=self.lr)
        except (ValueError, TypeError) as error:
            raise UserError(f"optim: {error}") from error
        numbers = [name for name, value in optimizer.defaults.items() if isinstance(value, float)]
        for name in self.schedules:
            if not isinstance(optimizer.defaults.get(name), (int, float)):
                raise UserError(unknown_key_message(f"optim.schedules.{name}", numbers))
        return optimizer

    def apply_schedule(self, optimizer: Optimizer, images: int) -> None:
        """Set the scheduled numbers of the optimizer for this step."""
        for group in optimizer.param_groups:
            for name, schedule in self.schedules.items():
                group[name] = schedule(optimizer.defaults[name], images)

    def clip_(self, gradients: list[torch.Tensor], norm: torch.Tensor) -> None:
        """Scale gradients in place so that their common norm is at most `clip`.

        Args:
            gradients: the gradients of all parameters.
            norm: their common norm, a tensor [].
        """
        if self.clip is not None:
            compat.foreach_mul_(gradients, torch.clamp(self.clip / (norm + 1e-6), max=1.0))

    def clipped(self, gradients: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return clipped gradients; the differentiable form of `clip_`, for unrolled optimisation."""
        if self.clip is None:
            return gradients
        share = torch.clamp(self.clip / (total_norm(gradients) + 1e-6), max=1.0)
        return [gradient * share for gradient in gradients]


def total_norm(gradients: list[torch.Tensor]) -> torch.Tensor:
    """Return the L2 norm of all gradients together, a tensor [].

    They must be of one device and dtype. `torch.nn.utils.get_total_norm` groups them by device and dtype first, which
    takes longer than the norm of a small network.
    """
    if not gradients:
        return torch.zeros(())
    return torch.linalg.vector_norm(torch.stack(compat.foreach_norm(gradients)))

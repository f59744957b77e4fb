"""torch's optimizers with the settings that Oakleaf needs."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import Optimizer

from oakleaf.config.types import Fraction, NonNegativeFloat, PositiveFloat


def adam(
    weights: Iterable[nn.Parameter],
    lr: PositiveFloat,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegativeFloat = 0.0,
) -> Optimizer:
    """Make torch's Adam in its fused form.

    The betas are made floats, because torch >= 2.6 refuses a list such as `[0, 0.99]`.

    Reference: Kingma & Ba 2014, arXiv:1412.6980.
    """
    first, second = map(float, betas)
    return torch.optim.Adam(weights, lr=lr, betas=(first, second), eps=eps, weight_decay=weight_decay, fused=True)


def sgd(
    weights: Iterable[nn.Parameter],
    lr: PositiveFloat,
    momentum: Fraction = 0.0,
    weight_decay: NonNegativeFloat = 0.0,
    nesterov: bool = False,
) -> Optimizer:
    """Make torch's SGD in its fused form, with momentum buffers that begin at zero.

    torch creates the buffers in the first step without initialising them. Where the guard skips that step on a GPU,
    they would stay uninitialised memory.
    """
    weights = list(weights)
    optimizer = torch.optim.SGD(
        weights, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, fused=True
    )
    for weight in weights:
        optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    return optimizer

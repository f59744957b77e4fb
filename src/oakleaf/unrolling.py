"""What the critic would be after some more of its own steps, as a differentiable function of what it is shown. Metz
2016 (Unrolled GAN), arXiv:1611.02163, section 2.2.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from oakleaf.errors import Mistake

Weights = dict[str, Tensor]
Rule = Callable[[Tensor, Tensor, dict[str, Tensor]], Tensor]


def foreseen(
    paid: Callable[[Weights], Tensor], weights: Mapping[str, Tensor], optimizer: Optimizer, steps: int
) -> Weights:
    """The weights after `steps` steps of their optimizer from where it stands, each on a fresh `paid(weights)`.

    Nothing is changed: neither the weights nor the optimizer's state.

    Raises:
        Mistake: no rule is known for that optimizer.
    """
    rule = _rule(optimizer)
    names, now = list(weights), [weight.detach().requires_grad_() for weight in weights.values()]
    states = [_numbers(optimizer.state.get(weight, {})) for weight in weights.values()]
    for _ in range(steps):
        slopes = torch.autograd.grad(paid(dict(zip(names, now))), now, create_graph=True, materialize_grads=True)
        now = [rule(weight, slope, state) for weight, slope, state in zip(now, slopes, states)]
    return dict(zip(names, now))


def _numbers(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items() if isinstance(value, Tensor)}


def _rule(optimizer: Optimizer) -> Rule:
    """The optimizer's update, without in-place steps."""
    (group,) = optimizer.param_groups
    if isinstance(optimizer, torch.optim.Adam):
        return lambda weight, slope, state: _adam(weight, slope, state, group)
    if isinstance(optimizer, torch.optim.SGD):
        return lambda weight, slope, state: _sgd(weight, slope, state, group)
    kind = type(optimizer).__name__
    raise Mistake(f"optim.generator.unrolled: D's steps can be foreseen for adam and sgd, not for {kind}")


def _adam(weight: Tensor, slope: Tensor, state: dict[str, Tensor], group: Mapping[str, Any]) -> Tensor:
    """Kingma & Ba 2014, arXiv:1412.6980, Algorithm 1."""
    first, second = group["betas"]
    slope = slope + group["weight_decay"] * weight
    count = state.get("step", torch.zeros(())) + 1
    mean = state.get("exp_avg", torch.zeros_like(weight)).lerp(slope, 1 - first)
    square = second * state.get("exp_avg_sq", torch.zeros_like(weight)) + (1 - second) * slope.square()
    state.update(step=count, exp_avg=mean, exp_avg_sq=square)
    count = count.to(weight.device)
    # the root's own slope is infinite at 0, where a weight has never had a gradient
    root = (square / (1 - second**count)).clamp(min=torch.finfo(square.dtype).tiny).sqrt()
    return weight - group["lr"] * mean / (1 - first**count) / (root + group["eps"])


def _sgd(weight: Tensor, slope: Tensor, state: dict[str, Tensor], group: Mapping[str, Any]) -> Tensor:
    slope = slope + group["weight_decay"] * weight
    if group["momentum"]:
        before = state.get("momentum_buffer")
        slope = slope if before is None else group["momentum"] * before + (1 - group["dampening"]) * slope
        state["momentum_buffer"] = slope
    return weight - group["lr"] * slope

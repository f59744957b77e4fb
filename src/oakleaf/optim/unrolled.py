"""What the critic would be after some more of its own steps, as a differentiable function of what it is shown. Metz
2016 (Unrolled GAN), arXiv:1611.02163, section 2.2.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from oakleaf.errors import UserError

Weights = dict[str, Tensor]
Rule = Callable[[Tensor, Tensor, dict[str, Tensor]], Tensor]


def unrolled_weights(
    paid: Callable[[Weights], Tensor],
    weights: Mapping[str, Tensor],
    optimizer: Optimizer,
    steps: int,
    clip: Callable[[list[Tensor]], list[Tensor]] = list,
    bound: Callable[[Tensor], Tensor] = lambda weight: weight,
) -> Weights:
    """The weights after `steps` steps of their optimizer from where it stands, each on a fresh `paid(weights)`.

    clip: what the player does to its gradients; bound: what the loss does to its weights, after each step. Nothing is
    changed: neither the weights nor the optimizer's state.

    Raises:
        UserError: no rule is known for that optimizer.
    """
    rule = _rule(optimizer)
    names, now = list(weights), [weight.detach().requires_grad_() for weight in weights.values()]
    states = [_numbers(optimizer.state.get(weight, {})) for weight in weights.values()]
    for _ in range(steps):
        slopes = torch.autograd.grad(paid(dict(zip(names, now))), now, create_graph=True, materialize_grads=True)
        now = [bound(rule(weight, slope, state)) for weight, slope, state in zip(now, clip([*slopes]), states)]
    return dict(zip(names, now))


def _numbers(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items() if isinstance(value, Tensor)}


def _rule(optimizer: Optimizer) -> Rule:
    """The optimizer's update, without in-place steps."""
    (group,) = optimizer.param_groups
    if odd := [name for name in ("amsgrad", "centered", "maximize", "nesterov") if group.get(name)]:
        raise UserError(f"optim.generator.unrolled: D's steps can't be foreseen with {odd[0]}=true in its optimizer")
    for kind, rule in {torch.optim.Adam: _adam, torch.optim.SGD: _sgd, torch.optim.RMSprop: _rmsprop}.items():
        if isinstance(optimizer, kind):  # AdamW is an Adam
            return partial(rule, group=group)
    raise UserError(
        "optim.generator.unrolled: D's steps can be foreseen for Adam, AdamW, SGD and RMSprop, "
        f"not for {type(optimizer).__name__}"
    )


def _adam(weight: Tensor, slope: Tensor, state: dict[str, Tensor], group: Mapping[str, Any]) -> Tensor:
    """Kingma & Ba 2014, arXiv:1412.6980, Algorithm 1; Loshchilov & Hutter 2017, arXiv:1711.05101, Algorithm 2."""
    first, second = group["betas"]
    if group["decoupled_weight_decay"]:
        weight = weight * (1 - group["lr"] * group["weight_decay"])
    else:
        slope = slope + group["weight_decay"] * weight
    count = state.get("step", torch.zeros(())) + 1
    mean = state.get("exp_avg", torch.zeros_like(weight)).lerp(slope, 1 - first)
    square = second * state.get("exp_avg_sq", torch.zeros_like(weight)) + (1 - second) * slope.square()
    state.update(step=count, exp_avg=mean, exp_avg_sq=square)
    count = count.to(weight)
    return weight - group["lr"] * mean / (1 - first**count) / (_root(square / (1 - second**count)) + group["eps"])


def _rmsprop(weight: Tensor, slope: Tensor, state: dict[str, Tensor], group: Mapping[str, Any]) -> Tensor:
    slope = slope + group["weight_decay"] * weight
    square = group["alpha"] * state.get("square_avg", torch.zeros_like(weight)) + (1 - group["alpha"]) * slope.square()
    step = slope / (_root(square) + group["eps"])
    state["square_avg"] = square
    if group["momentum"]:
        step = group["momentum"] * state.get("momentum_buffer", torch.zeros_like(weight)) + step
        state["momentum_buffer"] = step
    return weight - group["lr"] * step


def _sgd(weight: Tensor, slope: Tensor, state: dict[str, Tensor], group: Mapping[str, Any]) -> Tensor:
    slope = slope + group["weight_decay"] * weight
    if group["momentum"]:
        before = state.get("momentum_buffer")
        slope = slope if before is None else group["momentum"] * before + (1 - group["dampening"]) * slope
        state["momentum_buffer"] = slope
    return weight - group["lr"] * slope


def _root(square: Tensor) -> Tensor:
    """Its slope is infinite at 0, where a weight has never had a gradient."""
    return square.clamp(min=torch.finfo(square.dtype).tiny).sqrt()

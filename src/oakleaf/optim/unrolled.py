"""Unrolled optimisation: the discriminator's weights after more of its own steps, as a differentiable function.

Reference: Metz 2016 (Unrolled GAN), arXiv:1611.02163, section 2.2.
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
    loss: Callable[[Weights], Tensor],
    weights: Mapping[str, Tensor],
    optimizer: Optimizer,
    steps: int,
    clip: Callable[[list[Tensor]], list[Tensor]] = list,
    project: Callable[[Tensor], Tensor] = lambda weight: weight,
) -> Weights:
    """Return the weights after `steps` steps of their optimizer, differentiably.

    Weights and optimizer state are not changed. Buffers that a forward pass updates (BatchNorm's statistics, the
    vectors of spectral normalisation) are.

    Args:
        loss: the loss as a function of the weights; it is evaluated anew in each step.
        weights: the current weights by name.
        optimizer: the optimizer of these weights, in its current state.
        steps: number of steps.
        clip: the player's gradient clipping.
        project: the loss's weight constraint, applied after each step.

    Raises:
        UserError: the update rule of this optimizer is not implemented.
    """
    rules = _rules(optimizer, list(weights.values()))
    names, current = list(weights), [weight.detach().requires_grad_() for weight in weights.values()]
    states = [_numbers(optimizer.state.get(weight, {})) for weight in weights.values()]
    for _ in range(steps):
        total = loss(dict(zip(names, current)))
        gradients = torch.autograd.grad(total, current, create_graph=True, materialize_grads=True)
        updates = zip(rules, current, clip([*gradients]), states)
        current = [project(rule(weight, gradient, state)) for rule, weight, gradient, state in updates]
    return dict(zip(names, current))


def _numbers(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items() if isinstance(value, Tensor)}


def _rules(optimizer: Optimizer, weights: list[Tensor]) -> list[Rule]:
    """Return the update rule of each weight; a weight that the optimizer does not train keeps its value."""
    groups = {id(weight): _rule(optimizer, group) for group in optimizer.param_groups for weight in group["params"]}
    return [groups.get(id(weight), _unchanged) for weight in weights]


def _unchanged(weight: Tensor, gradient: Tensor, state: dict[str, Tensor]) -> Tensor:
    return weight


def _rule(optimizer: Optimizer, group: Mapping[str, Any]) -> Rule:
    """Return the optimizer's update rule for one of its groups, as a function without in-place operations."""
    if unsupported := [name for name in ("amsgrad", "centered", "maximize", "nesterov") if group.get(name)]:
        raise UserError(
            f"optim.generator.unrolled: the discriminator's steps cannot be unrolled with {unsupported[0]}=true"
        )
    for kind, rule in {torch.optim.Adam: _adam, torch.optim.SGD: _sgd, torch.optim.RMSprop: _rmsprop}.items():
        if isinstance(optimizer, kind):  # AdamW is an Adam
            return partial(rule, group=group)
    raise UserError(
        "optim.generator.unrolled: the discriminator's steps can be unrolled for Adam, AdamW, SGD and RMSprop, "
        f"not for {type(optimizer).__name__}"
    )


def _adam(weight: Tensor, gradient: Tensor, state: dict[str, Tensor], group: Mapping[str, Any]) -> Tensor:
    """Adam and AdamW.

    Reference: Kingma & Ba 2014, arXiv:1412.6980, Algorithm 1; Loshchilov & Hutter 2017, arXiv:1711.05101, Algorithm 2.
    """
    first, second = group["betas"]
    if group["decoupled_weight_decay"]:
        weight = weight * (1 - group["lr"] * group["weight_decay"])
    else:
        gradient = gradient + group["weight_decay"] * weight
    count = state.get("step", torch.zeros(())) + 1
    mean = state.get("exp_avg", torch.zeros_like(weight)).lerp(gradient, 1 - first)
    square = second * state.get("exp_avg_sq", torch.zeros_like(weight)) + (1 - second) * gradient.square()
    state.update(step=count, exp_avg=mean, exp_avg_sq=square)
    count = count.to(weight)
    return weight - group["lr"] * mean / (1 - first**count) / (_root(square / (1 - second**count)) + group["eps"])


def _rmsprop(weight: Tensor, gradient: Tensor, state: dict[str, Tensor], group: Mapping[str, Any]) -> Tensor:
    gradient = gradient + group["weight_decay"] * weight
    square = (
        group["alpha"] * state.get("square_avg", torch.zeros_like(weight)) + (1 - group["alpha"]) * gradient.square()
    )
    step = gradient / (_root(square) + group["eps"])
    state["square_avg"] = square
    if group["momentum"]:
        step = group["momentum"] * state.get("momentum_buffer", torch.zeros_like(weight)) + step
        state["momentum_buffer"] = step
    return weight - group["lr"] * step


def _sgd(weight: Tensor, gradient: Tensor, state: dict[str, Tensor], group: Mapping[str, Any]) -> Tensor:
    gradient = gradient + group["weight_decay"] * weight
    if group["momentum"]:
        before = state.get("momentum_buffer")
        gradient = gradient if before is None else group["momentum"] * before + (1 - group["dampening"]) * gradient
        state["momentum_buffer"] = gradient
    return weight - group["lr"] * gradient


def _root(square: Tensor) -> Tensor:
    """Return the square root, whose derivative would be infinite at 0 (a weight that never had a gradient)."""
    return square.clamp(min=torch.finfo(square.dtype).tiny).sqrt()

"""How one network is updated: role, optimizer, learning rate, frequency, clipping and schedules."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from oakleaf import compat
from oakleaf.config.suggest import unknown_key_message
from oakleaf.config.types import NonNegativeInt, PositiveFloat, PositiveInt
from oakleaf.errors import UserError
from oakleaf.optim.schedules import Schedule

Role = Literal["critic", "generator", "encoder"]
Named = Sequence[tuple[str, nn.Parameter]]


@dataclass
class Player:
    """The settings by which one network is updated.

    Args:
        optimizer: makes an optimizer from parameters and `lr`; a `_partial_` of any class of `torch.optim`.
        lr: learning rate.
        role: what the network minimises. "critic": the critic's side of the loss, its penalties and constraints;
            "generator": the generator's side; "encoder": terms, and in a bidirectional GAN the encoder's side. The
            player's name is the name of the network in the game and means nothing more.
        every: update this network on every n-th batch only. The generator's `every` is the k (n_critic) of
            Goodfellow 2014, arXiv:1406.2661, Algorithm 1: the discriminator then takes k steps, each on a fresh batch.
        clip: largest norm of the whole gradient; None for no clipping.
        unrolled: steps of the critics that this player's loss is unrolled through (`oakleaf.optim.unrolled`).
        accumulate: micro-batches that a batch is divided into. Their gradients are summed before the step, so less
            memory is needed. Without statistics over the batch (BatchNorm, minibatch discrimination, a term that
            compares images), the gradient is that of the whole batch.
        repeat: how often each batch is repeated for this player, with fresh latents for each repetition. With 2 for a
            generator, its batch of fakes is twice as large as the discriminator's, as in the code of Miyato 2018,
            arXiv:1802.05957.
        freeze: patterns of parameter names, as `layers.0.*`; these parameters are not trained.
        param_groups: groups of parameters with optimizer numbers of their own, by any name, e.g.
            `{mapping: {parameters: "mapping.*", lr: 2e-5}}`; a parameter belongs to the first group that fits.
        schedules: schedules by the name of the optimizer's number (lr, momentum, weight_decay, beta1, beta2, ...).
            A group with a number of its own begins from that.
    """

    optimizer: Callable[..., Optimizer]
    lr: PositiveFloat
    role: Role
    every: PositiveInt = 1
    clip: PositiveFloat | None = None
    unrolled: NonNegativeInt = 0
    accumulate: PositiveInt = 1
    repeat: PositiveInt = 1
    freeze: Sequence[str] = ()
    param_groups: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    schedules: Mapping[str, Schedule] = field(default_factory=dict)

    def trained(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> Named:
        """Return the named parameters that are trained: those that require gradients and are not frozen.

        Raises:
            UserError: a pattern of `freeze` fits no parameter, or no parameter is left.
        """
        named = [(name, parameter) for name, parameter in parameters if parameter.requires_grad]
        for pattern in self.freeze:
            _require_match("freeze", pattern, named)
        kept = [(name, p) for name, p in named if not any(fnmatchcase(name, pattern) for pattern in self.freeze)]
        if named and not kept:
            raise UserError(f"optim: freeze={list(self.freeze)} leaves no parameter to train; leave the player out")
        return kept

    def build(self, parameters: Named) -> Optimizer:
        """Build the optimizer of named parameters, as `trained` returns them.

        Raises:
            UserError: the optimizer refuses a number, or does not have a number that is scheduled; a pattern of
                `param_groups` fits no parameter.
        """
        try:
            optimizer = self.optimizer(self._groups(parameters), lr=self.lr)
        except (ValueError, TypeError) as error:
            raise UserError(f"optim: {error}") from error
        numbers = _numbers(optimizer.defaults)
        for name in self.schedules:
            if name not in numbers:
                raise UserError(unknown_key_message(f"optim.schedules.{name}", numbers))
        return optimizer

    def _groups(self, parameters: Named) -> list[Any]:
        """Return the optimizer's groups: plain parameters where there is one group."""
        if not self.param_groups:
            return [parameter for _, parameter in parameters]
        left, groups = list(parameters), []
        for numbers in self.param_groups.values():
            pattern = str(numbers.get("parameters"))
            _require_match("param_groups", pattern, parameters)
            fitting = {name for name, _ in left if fnmatchcase(name, pattern)}
            own = {name: value for name, value in numbers.items() if name != "parameters"}
            groups.append({"params": [parameter for name, parameter in left if name in fitting], **own})
            left = [(name, parameter) for name, parameter in left if name not in fitting]
        return [{"params": [parameter for _, parameter in left]}, *groups]

    def set_numbers(self, optimizer: Optimizer, images: int) -> None:
        """Give the optimizer its configured numbers, and the scheduled ones their values after `images` images."""
        own = [{}, *self.param_groups.values()]
        for group, numbers in zip(optimizer.param_groups, own):
            configured = {**optimizer.defaults, **{n: v for n, v in numbers.items() if n != "parameters"}}
            group.update({name: value for name, value in configured.items() if name in group})
        self.apply_schedule(optimizer, images)

    def apply_schedule(self, optimizer: Optimizer, images: int) -> None:
        """Set the scheduled numbers of the optimizer for this step."""
        if not self.schedules:
            return
        for group, numbers in zip(optimizer.param_groups, [{}, *self.param_groups.values()]):
            configured = _numbers({**optimizer.defaults, **numbers})
            for name, schedule in self.schedules.items():
                value = schedule(configured[name], images)
                if name in ("beta1", "beta2"):
                    betas = group["betas"]
                    group["betas"] = (value, betas[1]) if name == "beta1" else (betas[0], value)
                else:
                    group[name] = value

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


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return an optimizer's numbers by name; the two betas of Adam as beta1 and beta2."""
    numbers = {name: value for name, value in values.items() if isinstance(value, float)}
    if "betas" in values:
        numbers["beta1"], numbers["beta2"] = values["betas"]
    return numbers


def _require_match(key: str, pattern: str, named: Named) -> None:
    if not any(fnmatchcase(name, pattern) for name, _ in named):
        examples = ", ".join(name for name, _ in named[:3])
        raise UserError(f"optim: {key}: no parameter fits `{pattern}`; the names are {examples}, ...")


def total_norm(gradients: list[torch.Tensor]) -> torch.Tensor:
    """Return the L2 norm of all gradients together, a tensor [].

    They must be of one device and dtype. `torch.nn.utils.get_total_norm` groups them by device and dtype first, which
    takes longer than the norm of a small network.
    """
    if not gradients:
        return torch.zeros(())
    return torch.linalg.vector_norm(torch.stack(compat.foreach_norm(gradients)))

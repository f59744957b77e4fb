"""The Loss: an adversarial objective with its penalties and constraints."""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from oakleaf.losses.constraints import WeightClipping
from oakleaf.losses.objectives import Objective
from oakleaf.losses.terms import Term


class Loss(nn.Module):
    """An adversarial loss and everything that belongs to it, whatever the networks are.

    It is a module, so that the state of an objective or a penalty is in checkpoints.

    Args:
        name: its name, for messages and reports.
        objective: the losses of critic and generator.
        norm: the normalisation that the critic may use with this loss. Networks read it as `${loss.norm}`. A penalty on
            each image's gradient is not defined where BatchNorm mixes the images (Gulrajani 2017, arXiv:1704.00028,
            section 4).
        penalties: terms of the critic that belong to the loss, by name.
        constraints: constraints on the critic's weights, by name.
    """

    def __init__(
        self,
        name: str,
        objective: Objective,
        norm: Literal["batch", "layer", "instance", "spectral", "none"] = "batch",
        penalties: Mapping[str, Term] | None = None,
        constraints: Mapping[str, WeightClipping] | None = None,
    ) -> None:
        super().__init__()
        self.name, self.norm, self.objective = name, norm, objective
        self.penalties = nn.ModuleDict(penalties or {})
        self.constraints = dict(constraints or {})

    def constrain(self, critic: nn.Module) -> None:
        """Apply the constraints to a critic's weights, in place."""
        for constraint in self.constraints.values():
            constraint(critic)

    def project(self, weight: Tensor) -> Tensor:
        """Return a weight of the critic after all constraints, differentiably."""
        for constraint in self.constraints.values():
            weight = constraint.project(weight)
        return weight

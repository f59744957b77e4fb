"""Schedules for any number of a recipe: a penalty's weight, the half-life of the EMA, the strength of augmentation."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from oakleaf.errors import UserError
from oakleaf.optim.schedules import Schedule


class ScheduledNumber:
    """One number of a recipe that follows a schedule.

    In a module the number becomes a buffer that is not stored, so that a compiled graph reads its present value. The
    value follows from the images seen alone, so a resumed run continues exactly.

    Args:
        owner: the object that has the number.
        name: the name of its attribute.
        schedule: the schedule; the configured value is its base.
        path: dotted key of the number, for messages.

    Raises:
        UserError: there is no such number.
    """

    def __init__(self, owner: Any, name: str, schedule: Schedule, path: str) -> None:
        base = getattr(owner, name, None)
        if isinstance(base, torch.Tensor) or not isinstance(base, (int, float)) or isinstance(base, bool):
            raise UserError(f"schedules.{path}: there is no such number")
        self.owner, self.name, self.schedule, self.base = owner, name, schedule, float(base)
        if isinstance(owner, nn.Module):
            delattr(owner, name)
            owner.register_buffer(name, torch.tensor(self.base), persistent=False)

    def set(self, images: int) -> None:
        """Set the number for this iteration, after `images` images were seen."""
        value = self.schedule(self.base, images)
        if isinstance(self.owner, nn.Module):
            getattr(self.owner, self.name).fill_(value)
        else:
            setattr(self.owner, self.name, value)


def scheduled_numbers(tree: Mapping[str, Any], roots: Mapping[str, Any], path: str = "") -> Iterator[ScheduledNumber]:
    """Find the numbers that a tree of schedules names.

    Args:
        tree: schedules in nested mappings, whose keys are those of the recipe:
            `{loss: {penalties: {r1: {weight: Cosine(...)}}}}`.
        roots: the objects that the keys lead through: attributes of objects, entries of mappings.
        path: dotted key of the tree, for messages.

    Raises:
        UserError: a key leads nowhere, or to no number.
    """
    for key, node in tree.items():
        full = f"{path}.{key}" if path else key
        if not isinstance(node, Mapping):
            yield ScheduledNumber(roots, key, node, full)
            continue
        is_mapping = isinstance(roots, (Mapping, nn.ModuleDict))
        found: dict[str, Any] = dict(roots.items()) if is_mapping else {key: getattr(roots, key, None)}
        child = found.get(key)
        if child is None:
            raise UserError(f"schedules.{full}: the recipe has no such key")
        yield from scheduled_numbers(node, child, full)

"""Running means that stay on the device until they are logged."""

import torch
from torch import Tensor


class RunningMeans:
    """Means of named scalars between two looks. Adding never waits for the device; looking does, once.

    Lightning's own `log_dict` at every step was the largest cost of its loop.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], Tensor] = {}
        self._counts: dict[tuple[str, ...], int] = {}

    def add(self, group: str, values: dict[str, Tensor]) -> None:
        """Take in scalars, to be called `group/name`."""
        if not values:
            return
        names = tuple(f"{group}/{name}" for name in values)
        stacked = torch.stack([*values.values()]).detach().float()
        self._sums[names] = self._sums[names] + stacked if names in self._sums else stacked
        self._counts[names] = self._counts.get(names, 0) + 1

    def pop(self) -> dict[str, float]:
        """The means since the last look, by name; then start anew. A name met in several groups of scalars (a term
        that is not paid every turn) is averaged over all of them."""
        totals: dict[str, float] = {}
        counts: dict[str, int] = {}
        for names, sums in self._sums.items():
            for name, value in zip(names, sums.tolist()):
                totals[name] = totals.get(name, 0.0) + value
                counts[name] = counts.get(name, 0) + self._counts[names]
        self._sums.clear()
        self._counts.clear()
        return {name: totals[name] / counts[name] for name in totals}

"""Means of scalars that are accumulated on the device until they are logged."""

import torch
from torch import Tensor


class RunningMeans:
    """Means of named scalars over the iterations between two logging steps.

    `add` accumulates on the device and never waits for it; `pop` copies the sums to the CPU, which waits once.
    Lightning's `log_dict` in every step was the largest overhead of its training loop.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], Tensor] = {}
        self._counts: dict[tuple[str, ...], int] = {}

    def add(self, group: str, values: dict[str, Tensor]) -> None:
        """Accumulate scalars.

        Args:
            group: prefix of the logged names, `group/name`.
            values: scalar tensors [] by name.
        """
        if not values:
            return
        names = tuple(f"{group}/{name}" for name in values)
        stacked = torch.stack([*values.values()]).detach().float()
        self._sums[names] = self._sums[names] + stacked if names in self._sums else stacked
        self._counts[names] = self._counts.get(names, 0) + 1

    def pop(self) -> dict[str, float]:
        """Return the means since the last call by their logged names, and reset them.

        The mean of a name is over the calls of `add` that contained it. A lazily computed term, which is not in every
        iteration's scalars, is therefore averaged over the iterations in which it was computed.
        """
        totals: dict[str, float] = {}
        counts: dict[str, int] = {}
        for names, sums in self._sums.items():
            for name, value in zip(names, sums.tolist()):
                totals[name] = totals.get(name, 0.0) + value
                counts[name] = counts.get(name, 0) + self._counts[names]
        self._sums.clear()
        self._counts.clear()
        return {name: totals[name] / counts[name] for name in totals}

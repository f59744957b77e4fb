"""Running means of scalars that stay on the device until they are logged."""

import torch
from torch import Tensor


class RunningMeans:
    """Means of named scalars between two logged rows.

    Adding never waits for the device; `pop` waits once. Lightning's own `log_dict` in every step was the largest cost
    of its training loop.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], Tensor] = {}
        self._counts: dict[tuple[str, ...], int] = {}

    def add(self, prefix: str, values: dict[str, Tensor]) -> None:
        """Add scalars.

        Args:
            prefix: they are named `prefix/name`; "" for `name` alone.
            values: tensors [] by name.
        """
        if not values:
            return
        names = tuple(f"{prefix}/{name}" if prefix else name for name in values)
        stacked = torch.stack([*values.values()]).detach().float()
        self._sums[names] = self._sums[names] + stacked if names in self._sums else stacked
        self._counts[names] = self._counts.get(names, 0) + 1

    def __bool__(self) -> bool:
        """Return whether there are scalars since the last row."""
        return bool(self._sums)

    def pop(self) -> dict[str, float]:
        """Return the means since the last call, by name, and forget them.

        A name that was added with different groups of other names (a term that is not computed in every step) is
        averaged over all of them.
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

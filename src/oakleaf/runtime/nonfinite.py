"""Steps that must not be taken: a loss or a gradient that is NaN or infinite."""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from oakleaf.config.types import NonNegativeInt, PositiveInt
from oakleaf.errors import UserError

log = logging.getLogger(__name__)


class TrainingDiverged(UserError):
    """Too many steps in a row had to be skipped."""


class NonFiniteGuard:
    """Lets a player step only if what it pays and the norm of its whole gradient are finite, so weights stay finite
    whatever happens. After `in_a_row` skipped steps of a player the run ends, with the player, the term and the batch
    named; `back` times it first goes back to its last checkpoint, and on with half the rates (`train.py`).

    On a GPU nothing waits: a fused optimizer (`oakleaf.optim.optimizers.adam`, `sgd`) is told on the device, and the counts are
    read at each look. One that torch has in no such form (RMSprop) can only be left out, which waits for each turn.
    """

    def __init__(self, max_consecutive: PositiveInt = 10, max_rollbacks: NonNegativeInt = 0) -> None:
        self.max_consecutive, self.max_rollbacks = max_consecutive, max_rollbacks
        self.consecutive: dict[str, Tensor] = {}  # by player: steps skipped in a row
        self.skipped: dict[str, Tensor] = {}  # and in all
        self.last_losses: dict[str, Mapping[str, Tensor]] = {}  # what the player would last have paid

    def check(self, player: str, optimizer: Any, losses: Mapping[str, Tensor], norm: Tensor) -> bool:
        """Whether the optimizer may step; one that can tell on the device may always."""
        total = sum(losses.values(), norm)
        gpu = total.device.type == "cuda"
        self.last_losses[player] = _copied(losses) if gpu else losses
        if gpu and optimizer.defaults.get("fused"):
            finite = torch.isfinite(total)
            optimizer.found_inf = (~finite).float()
            none = finite.new_zeros((), dtype=torch.long)
            self.consecutive[player] = torch.where(finite, none, self.consecutive.get(player, none) + 1)
            self.skipped[player] = self.skipped.get(player, none) + ~finite
            return True
        if math.isfinite(total.item()):
            self.consecutive.pop(player, None)
            return True
        for counts in (self.consecutive, self.skipped):
            counts[player] = counts.get(player, torch.zeros((), dtype=torch.long)) + 1
        return False

    def raise_if_diverged(
        self, iteration: int, batch: Mapping[str, Tensor], draws: Callable[[], Tensor] | None = None
    ) -> bool:
        """Whether steps are being skipped. draws: some samples of the generator.

        Raises:
            Diverged: too many in a row.
        """
        for player, bad in self.consecutive.items():
            if int(bad) >= self.max_consecutive:
                raise TrainingDiverged(self._words(player, int(bad), iteration, batch, draws))
        return any(int(bad) for bad in self.consecutive.values())

    def _words(
        self, player: str, bad: int, iteration: int, batch: Mapping[str, Tensor], draws: Callable[[], Tensor] | None
    ) -> str:
        terms = [
            f"{player}/{name}" for name, value in self.last_losses[player].items() if not bool(torch.isfinite(value))
        ]
        what = " and ".join(terms) or f"the gradient of {player}"
        rotten = [name for name, rows in batch.items() if rows.is_floating_point() and not bool(rows.isfinite().all())]
        its = f"; the batch's own {rotten[0]} is not finite" if rotten else ""
        if draws and not rotten and _strays(draws):  # whoever's loss shows it first
            player, its = "generator", "; what the generator draws is not finite"
        return (
            f"{what} is NaN or infinite in {bad} steps in a row, the last on the batch of turn {iteration}{its}. They were "
            f"not taken. Lower optim.{player}.lr, or set optim.{player}.clip=1, or nonfinite.max_rollbacks=3"
        )


def _strays(draws: Callable[[], Tensor]) -> bool:
    try:
        return not bool(draws().isfinite().all())
    except RuntimeError:  # as of a density that can't be fitted to NaN; what there is to say is said without
        return False


def _copied(losses: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """For a look some turns later: a CUDA graph writes over its outputs when it is replayed."""
    return dict(zip(losses, torch.stack([*losses.values()]).detach())) if losses else {}


@torch.no_grad()
def repair_buffers(network: nn.Module, average: nn.Module | None) -> None:
    """Put right what a forward pass with NaN has left in a network's statistics and in those of its average."""
    theirs = dict(average.named_buffers()) if average is not None else {}
    for place, module in network.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if not buffer.is_floating_point():
                continue
            mean = theirs.get(f"{place}.{name}" if place else name)
            if not bool(buffer.isfinite().all()):
                if mean is not None and bool(mean.isfinite().all()):
                    buffer.copy_(mean)
                elif hasattr(module, "reset_running_stats"):
                    module.reset_running_stats()  # type: ignore[operator]
            if mean is not None and not bool(mean.isfinite().all()):
                mean.copy_(buffer)

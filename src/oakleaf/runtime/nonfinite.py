"""Skipping of optimizer steps whose loss or gradient is NaN or infinite."""

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
    """Too many steps of a player in a row were not finite."""


class NonFiniteGuard:
    """Skips a player's step if a loss or the norm of its gradient is NaN or infinite, so that weights stay finite.

    After `max_consecutive` skipped steps of one player the run ends with an error that names the player, the loss term
    and the iteration. Up to `max_rollbacks` times it first returns to its last checkpoint and continues with half the
    learning rates (`oakleaf.cli.resume.rollback`).

    On a GPU the check does not wait for the device. A test such as `if loss.isfinite()` copies a result to the CPU,
    which must then wait until the GPU has computed it, and the GPU afterwards waits for new work. Instead the result
    stays on the device: torch's fused optimizers read a tensor `optimizer.found_inf` (the interface of its loss scaler
    for fp16) and leave weights and moments as they are where it is 1. The number of skipped steps is counted on the
    device as well, and is read at each logging step (`raise_if_diverged`). An optimizer without a fused form (RMSprop)
    has to be skipped on the CPU, which waits for the GPU in every step.

    Args:
        max_consecutive: skipped steps of a player in a row after which the run ends.
        max_rollbacks: how often the run returns to its last checkpoint before it ends.

    Attributes:
        consecutive: by player, how many of its steps were skipped in a row, as a tensor [].
        skipped: by player, how many of its steps were skipped in all, as a tensor [].
        last_losses: by player, its losses by term in its last step.
    """

    def __init__(self, max_consecutive: PositiveInt = 10, max_rollbacks: NonNegativeInt = 0) -> None:
        self.max_consecutive, self.max_rollbacks = max_consecutive, max_rollbacks
        self.consecutive: dict[str, Tensor] = {}
        self.skipped: dict[str, Tensor] = {}
        self.last_losses: dict[str, Mapping[str, Tensor]] = {}
        self._skipped_at_last_check = 0

    def check(self, player: str, optimizer: Any, losses: Mapping[str, Tensor], norm: Tensor) -> bool:
        """Decide whether a player's optimizer may step.

        Args:
            player: name of the player.
            optimizer: the player's torch optimizer; its `found_inf` is set if it is fused and on a GPU.
            losses: the player's losses [] by term. With several processes they are empty: the averaged gradient alone
                is the same in all of them, and all must decide alike.
            norm: norm [] of the player's whole gradient.

        Returns:
            Whether to call `optimizer.step()`; always True for a fused optimizer on a GPU, which decides on the device.
        """
        total = sum(losses.values(), norm)  # not finite if any summand is not
        on_gpu = total.device.type == "cuda"
        self.last_losses[player] = _copy(losses) if on_gpu else losses
        if on_gpu and optimizer.defaults.get("fused"):
            finite = torch.isfinite(total)
            optimizer.found_inf = (~finite).float()
            zero = finite.new_zeros((), dtype=torch.long)
            self.consecutive[player] = torch.where(finite, zero, self.consecutive.get(player, zero) + 1)
            self.skipped[player] = self.skipped.get(player, zero) + ~finite
            return True
        if math.isfinite(total.item()):
            self.consecutive.pop(player, None)
            return True
        for counts in (self.consecutive, self.skipped):
            counts[player] = counts.get(player, torch.zeros((), dtype=torch.long)) + 1
        return False

    def raise_if_diverged(
        self, iteration: int, batch: Mapping[str, Tensor], sample: Callable[[], Tensor] | None = None
    ) -> bool:
        """Return whether steps were skipped since the last call; on a GPU this waits for the device.

        Args:
            iteration: the current iteration.
            batch: its batch; an error names the entry that is not finite itself.
            sample: returns some samples of the generator. If they are not finite, the error names the generator's
                settings, even if another player's loss was the first that was not finite.

        Raises:
            TrainingDiverged: a player has reached `max_consecutive`.
        """
        for player, count in self.consecutive.items():
            if int(count) >= self.max_consecutive:
                raise TrainingDiverged(self._message(player, int(count), iteration, batch, sample))
        skipped = sum(int(count) for count in self.skipped.values())
        grew, self._skipped_at_last_check = skipped > self._skipped_at_last_check, skipped
        return grew

    def _message(
        self,
        player: str,
        count: int,
        iteration: int,
        batch: Mapping[str, Tensor],
        sample: Callable[[], Tensor] | None,
    ) -> str:
        terms = [f"loss/{player}/{name}" for name, loss in self.last_losses[player].items() if not _is_finite(loss)]
        source = " and ".join(terms) or f"the gradient of {player}"
        inputs = [name for name, rows in batch.items() if rows.is_floating_point() and not _is_finite(rows)]
        cause, unstable = "", player
        if inputs:
            cause = f", where the batch's {inputs[0]} is not finite"
        elif sample and _samples_are_nonfinite(sample):
            cause, unstable = ", and the generator's samples are not finite", "generator"
        return (
            f"{source} is NaN or infinite in {count} steps in a row, the last in iteration {iteration}{cause}; lower "
            f"optim.{unstable}.lr, or set optim.{unstable}.clip=1, or nonfinite.max_rollbacks=3 to continue from the "
            "last checkpoint with half the rates"
        )


def _is_finite(values: Tensor) -> bool:
    return bool(values.isfinite().all())


def _samples_are_nonfinite(sample: Callable[[], Tensor]) -> bool:
    try:
        return not _is_finite(sample())
    except RuntimeError:  # sampling itself can fail on NaN weights, as a fitted density does
        return False


def _copy(losses: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Copy the losses: a CUDA graph writes over its output tensors when it is replayed."""
    return dict(zip(losses, torch.stack([*losses.values()]).detach())) if losses else {}


@torch.no_grad()
def repair_buffers(network: nn.Module, ema: nn.Module | None) -> None:
    """Replace non-finite buffers (BatchNorm's running statistics) after a forward pass with NaN.

    The forward pass updates them before the loss is known, so skipping the step does not protect them. They are copied
    from the network's EMA copy, or reset where that is not finite either or does not exist; then buffers of the EMA
    copy that are not finite are copied from the network.

    Args:
        network: a player's network, changed in place.
        ema: its EMA copy, changed in place; None if it has none.
    """
    ema_buffers = dict(ema.named_buffers()) if ema is not None else {}
    for path, module in network.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if not buffer.is_floating_point():
                continue
            averaged = ema_buffers.get(f"{path}.{name}" if path else name)
            if not _is_finite(buffer):
                if averaged is not None and _is_finite(averaged):
                    buffer.copy_(averaged)
                elif hasattr(module, "reset_running_stats"):
                    module.reset_running_stats()  # type: ignore[operator]
            if averaged is not None and not _is_finite(averaged):
                averaged.copy_(buffer)

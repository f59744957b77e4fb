"""Objectives with a state of their own."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from oakleaf.round import Round


class StatefulObjective(nn.Module):
    """An objective whose state follows the training, such as BEGAN's k.

    The state is kept in buffers. The game registers the objective as a submodule, so the state is in checkpoints and
    moves to the device. A loss method may write into buffers inside a compiled step, as BatchNorm does.
    """

    def update_state(self) -> None:
        """Update the state after a player's step, equally in all processes."""

    def diagnostics(self, round: Round) -> dict[str, Tensor]:
        """Return scalars to log, by name."""
        return {}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Move to another device but never to another precision: bfloat16 would lose small changes of the state."""
        super()._apply(lambda tensor: fn(tensor).to(tensor.dtype), recurse)
        return self

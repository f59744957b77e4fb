"""What has a state that follows the training: objectives, terms, augmentations."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from oakleaf.round import Round


class Stateful(nn.Module):
    """A module whose state follows the training: BEGAN's k, LeCam's averages, the p of ADA.

    The state is kept in buffers. The game registers the module, so the state is in checkpoints and moves to the device.
    A loss method may write into buffers inside a compiled step, as BatchNorm does; `update_state` then changes the
    state after the step, equally in all processes (`oakleaf.runtime.distributed.all_reduce_mean`).
    """

    def update_state(self) -> None:
        """Update the state after a player's step, equally in all processes."""

    def diagnostics(self, round: Round) -> dict[str, Tensor]:
        """Return scalars to log, by name."""
        return {}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Move the state to another device but never to another precision: bfloat16 would lose small changes of it.

        Networks inside the module take the precision of all networks.
        """
        state, self._buffers = self._buffers, {}
        super()._apply(fn, recurse)
        self._buffers = {name: value if value is None else fn(value).to(value.dtype) for name, value in state.items()}
        return self

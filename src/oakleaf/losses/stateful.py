"""Objectives with a state of their own."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from oakleaf.round import Round


class StatefulObjective(nn.Module):
    """An objective whose state follows what it sees. The state is buffers: the game registers the objective, so they
    are in its checkpoints; and a method may write into them within a compiled turn, as BatchNorm does.
    """

    def update_state(self) -> None:
        """After a player's step: let the state follow what the turn has shown, in all processes alike."""

    def diagnostics(self, round: Round) -> dict[str, Tensor]:
        """What there is to see of it beside the critic's scores, by name."""
        return {}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """To another device, but never to another precision: bfloat16 would lose small steps of a state."""
        super()._apply(lambda tensor: fn(tensor).to(tensor.dtype), recurse)
        return self

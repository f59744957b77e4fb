"""Further critics of a game, each with its own loss and optimizer."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from oakleaf.losses.loss import Loss


@dataclass
class FurtherCritic:
    """A critic besides the discriminator of the game. It scores the same real and fake images.

    In the configuration it is `model.critics.<name>`, and `optim.<name>` is its player with `role: critic`. It has its
    own optimizer, loss, penalties, constraints and `every`. Each generator minimises the sum over all critics of their
    weight times the generator's side of their loss.

    Args:
        network: as the game's discriminator: maps images, and the condition where there is one, to scores.
        loss: its adversarial loss; None: that of the run, with the same penalties.
        transform: applied to real and fake images before the network, such as a blur or a crop; None for none.
        weight: factor of this critic's part of a generator's loss.
    """

    network: nn.Module
    loss: Loss | None = None
    transform: Callable[[Tensor], Tensor] | None = None
    weight: float = 1.0

"""Frozen networks for tests."""

from typing import Any

import torch
from torch import nn

from oakleaf.frozen import FrozenNetwork
from oakleaf.frozen.preprocessing import Input
from oakleaf.frozen.provenance import Provenance, of_weights


class Fixed(FrozenNetwork):
    """A small network whose weights come from a seed.

    Args:
        seed: of the weights.
        size: of its input; None: any.
        wide: channels of the last map.
        options: of `Input`.
    """

    def __init__(self, seed: int = 0, size: int | None = None, wide: int = 6, **options: Any) -> None:
        convolutions = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, wide, 3, 2)
        layers = nn.Sequential(*convolutions)
        network = nn.Sequential(layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(wide, 5))
        self.number = seed
        super().__init__(network, Input(size, 3, **options), embedding="4")

    @property
    def source(self) -> str:
        return f"Fixed({self.number})"

    @torch.no_grad()
    def read(self) -> Provenance:
        with torch.random.fork_rng():
            torch.manual_seed(self.number)
            for tensor in self.network.state_dict().values():
                if tensor.is_floating_point():
                    tensor.copy_(torch.rand_like(tensor))
        return of_weights(self.source, self.network)


def ready(network: FrozenNetwork) -> FrozenNetwork:
    """Return a network with the weights of its source."""
    network.initialize()
    return network

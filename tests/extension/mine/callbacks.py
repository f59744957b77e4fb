"""A callback of Lightning's."""

from typing import Any

import torch
from lightning.pytorch import Callback, Trainer


class WeightNorm(Callback):
    """Log the norm of each player's weights in the iterations that log a row, as `weight_norm/<player>`."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        if pl_module.iteration % pl_module.log_every == 0:
            for name in pl_module.players:
                self.log(f"weight_norm/{name}", norm(pl_module.network(name)))


def norm(network: torch.nn.Module) -> torch.Tensor:
    return torch.stack([weight.detach().norm() for weight in network.parameters()]).norm()

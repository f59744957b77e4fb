"""A callback: Lightning's own, with Oakleaf's clock and loggers."""

from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from oakleaf.runtime.loggers import log_scalars


class WeightNorm(Callback):
    """Log the norm of each player's weights every `log_every` iterations, as `weight_norm/<player>`."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        if pl_module.iteration % pl_module.log_every:
            return
        norms = {f"weight_norm/{name}": norm(pl_module.network(name)) for name in pl_module.players}
        log_scalars(trainer, norms)


def norm(network: torch.nn.Module) -> float:
    return float(torch.stack([weight.detach().norm() for weight in network.parameters()]).norm())

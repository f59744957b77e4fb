"""The sign of life of a contestant."""

from typing import Any

import torch
from lightning.pytorch import Callback


def beat() -> None:
    """Say that so many images more were trained, when they were."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    print("beat", flush=True)


class Beat(Callback):
    """A beat every so many turns of a Lightning run."""

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:  # type: ignore[override]
        if pl_module.iteration % self.iterations == 0:
            beat()

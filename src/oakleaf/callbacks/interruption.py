"""Ending a run from outside without losing anything."""

import logging
import signal
import threading
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from oakleaf.runtime import distributed

log = logging.getLogger(__name__)

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]


class Interruption(Callback):
    """SIGTERM, SIGUSR1 (how schedulers tell that a machine is taken away) and Ctrl-C end the run with the turn that is
    being played and a checkpoint; a second Ctrl-C ends it at once.

    `received` is the signal's number, from which `train.py` makes the exit code 128 + n that shells and schedulers
    know: 143, 138, 130. With several processes, one that is told tells the others, and all end with the same turn.
    """

    def __init__(self) -> None:
        self.received = 0
        self.before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        if threading.current_thread() is threading.main_thread():  # after Lightning's own, which ends with code 0
            self.before = {number: signal.signal(number, self._hear) for number in SIGNALS}

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:  # type: ignore[override]
        if trainer.world_size > 1:
            told = torch.tensor([self.received], device=pl_module.device)
            torch.distributed.all_reduce(told, op=torch.distributed.ReduceOp.MAX)
            self.received = int(told)
        if self.received:
            trainer.should_stop = True  # so that this turn is saved

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._forget()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        self._forget()

    def _hear(self, number: int, _: Any) -> None:
        if number == signal.SIGINT and self.received == number:
            raise KeyboardInterrupt
        self.received = number
        if distributed.rank_and_world_size()[0] == 0:
            log.warning("%s: saving, and ending with this turn", signal.Signals(number).name)

    def _forget(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self.before = {}

"""Ending a run from outside without losing its progress.

Signals. Schedulers announce that a machine is taken away by SIGTERM (Kubernetes, Slurm's `scancel`) or SIGUSR1 (Slurm's
`--signal`), SIGUSR2 (Grid Engine) or SIGXCPU (a limit of CPU time), a terminal that is closed sends SIGHUP, and a user
presses Ctrl-C, which is SIGINT. A Python signal handler may run in the middle of an optimizer
step, where nothing consistent could be saved. The handler here therefore only stores the signal's number; the callback
reads it after the iteration and stops the trainer, and `Checkpoint` then saves the run.

Exit codes. `train.py` ends with code 128 + n after signal n, as shells and schedulers expect of a process that a signal
has ended: 143 for SIGTERM, 138 for SIGUSR1, 130 for SIGINT, 129 for SIGHUP. Lightning's own handler would end the run
with code 0, like a completed run.
"""

import logging
import signal
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from oakleaf.runtime import distributed, signals

log = logging.getLogger(__name__)


class Interruption(Callback):
    """Save and end the run on SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU and Ctrl-C.

    The current iteration is completed and saved first; a second Ctrl-C ends the run at once. An evaluation that has
    begun is left out (`oakleaf.runtime.signals.interruptible`). If there are several processes, they exchange the
    signal's number after every iteration, so that all of them stop after the same one.

    Attributes:
        received: the number of the signal that was received, 0 if there was none.
    """

    def __init__(self) -> None:
        self.received = 0
        self.previous_handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Install the handlers; at this point Lightning has installed its own, which are replaced."""
        self.previous_handlers = signals.replace_handlers(self._handle)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:  # type: ignore[override]
        """Stop the trainer if any process has received a signal."""
        if trainer.world_size > 1:
            received = torch.tensor([self.received], device=pl_module.device)
            torch.distributed.all_reduce(received, op=torch.distributed.ReduceOp.MAX)
            self.received = int(received)
        if self.received:
            trainer.should_stop = True  # `Checkpoint`, which is called later, saves this iteration

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Restore the handlers that were there before."""
        self._restore_handlers()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Restore the handlers that were there before."""
        self._restore_handlers()

    def _handle(self, number: int, _: Any) -> None:
        if number == signal.SIGINT and self.received == number:
            raise signals.Interrupted(number)
        self.received = number
        rank, processes = distributed.rank_and_world_size()
        if rank == 0:
            log.warning("%s: the run is saved and ends after this iteration", signal.Signals(number).name)
        if signals.is_interruptible() and processes == 1:  # several processes would wait for each other's results
            raise signals.Interrupted(number)

    def _restore_handlers(self) -> None:
        signals.restore_handlers(self.previous_handlers)
        self.previous_handlers = {}

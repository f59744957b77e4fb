"""Profiling a few iterations with torch's profiler."""

import logging
import math
import os
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.profilers import Profiler
from torch.profiler import ProfilerActivity, profile, record_function

from oakleaf.config.types import PositiveInt
from oakleaf.gan import GAN

log = logging.getLogger(__name__)

AFTER, AFTER_GPU = 10, 60  # iterations before the recording; on a GPU `compile=auto` has decided by then
ROWS = 15  # operators in the summary


class Profile(Callback):
    """Record a few iterations with torch's profiler, and write a trace and a summary.

    The folder receives `trace.json.gz`, for https://ui.perfetto.dev or chrome://tracing, and `summary.txt`, torch's
    table of the operators that took most time: of the CPU, or on a GPU of the GPU. The log says how many seconds an
    iteration took. The profiler itself costs time for each operator, so small operators look more expensive than they
    are. The training is not changed. If there are several processes, the first one is recorded.

    Args:
        enabled: whether to record at all.
        folder: where the files are written.
        after: iterations before the recording, counted from where the run starts or resumes; null: 10, on a GPU 60.
        iterations: how many iterations are recorded, rounded up so that each player takes its long-run share of steps.
    """

    def __init__(
        self, enabled: bool, folder: Path, after: PositiveInt | None = None, iterations: PositiveInt = 10
    ) -> None:
        self.enabled, self.folder, self.after, self.iterations = enabled, Path(folder), after, iterations
        self.profiler: profile | None = None
        if enabled:
            os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # otherwise Kineto prints its start and stop

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Compute the first and the last iteration of the recording."""
        self.gpu = pl_module.device.type == "cuda"
        self.start = pl_module.iteration + (self.after or (AFTER_GPU if self.gpu else AFTER))
        cycle = math.lcm(*(player.every for player in getattr(pl_module, "players", {}).values()))
        self.stop = self.start + cycle * math.ceil(self.iterations / cycle)
        self.enabled = self.enabled and trainer.is_global_zero

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, *_: Any) -> None:  # type: ignore[override]
        """Start or stop the recording."""
        if self.enabled and pl_module.iteration == self.start:
            self._start_recording(trainer)
        elif self.profiler and pl_module.iteration == self.stop:
            self._write(trainer, pl_module.iteration - self.start)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write what was recorded of a run that ended early, or warn that nothing was."""
        if self.profiler and pl_module.iteration > self.start:
            self._write(trainer, pl_module.iteration - self.start)
        elif self.enabled and pl_module.iteration <= self.start:
            if self.profiler:
                self._stop_recording(trainer)
            log.warning(
                "profile=true: the run ended before its iteration %d, after which the recording starts; train longer, "
                "or set callbacks.profile.after=1",
                self.start,
            )

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Stop a recording without writing it."""
        if self.profiler:
            self._stop_recording(trainer)

    def _start_recording(self, trainer: Trainer) -> None:
        self.profiler = profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.gpu else [])])
        self.lightning_profiler, trainer.profiler = trainer.profiler, TraceScopes()  # type: ignore[attr-defined]
        self.profiler.start()
        self.start_time = self._now()

    def _stop_recording(self, trainer: Trainer) -> None:
        assert self.profiler
        self.profiler.stop()
        trainer.profiler = self.lightning_profiler  # type: ignore[attr-defined]
        self.profiler = None

    def _write(self, trainer: Trainer, iterations: int) -> None:
        assert self.profiler
        seconds, recorded = (self._now() - self.start_time) / iterations, self.profiler
        self._stop_recording(trainer)
        self.folder.mkdir(parents=True, exist_ok=True)
        recorded.export_chrome_trace(str(self.folder / "trace.json.gz"))
        key = "self_cuda_time_total" if self.gpu else "self_cpu_time_total"
        table = recorded.key_averages().table(sort_by=key, row_limit=ROWS)
        (self.folder / "summary.txt").write_text(table + "\n")
        log.info(
            "profile: %.3g s per iteration, %d iterations recorded; trace.json.gz and summary.txt are in %s/",
            *(seconds, iterations, self.folder),
        )

    def _now(self) -> float:
        if self.gpu:
            torch.cuda.synchronize()
        return time.perf_counter()


class TraceScopes(Profiler):
    """A Lightning profiler that adds Lightning's own actions to torch's trace, such as each callback's hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.open: dict[str, record_function] = {}

    def start(self, action_name: str) -> None:
        """Open a scope of this name in the trace."""
        self.open[action_name] = record_function(action_name)
        self.open[action_name].__enter__()

    def stop(self, action_name: str) -> None:
        """Close the scope of this name, if it was opened."""
        if scope := self.open.pop(action_name, None):
            scope.__exit__(None, None, None)

"""A look at a few turns from inside."""

import json
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

from oakleaf.callbacks.profile_summary import shares, words
from oakleaf.config.types import PositiveInt
from oakleaf.gan import GAN

log = logging.getLogger(__name__)

WARM, WARM_GPU = 10, 60  # turns before; on a GPU compile=auto has decided by then


class Profile(Callback):
    """Records a few turns with torch's profiler, says their three largest costs, and lets the run go on as without.

    The folder gets `trace.json.gz`, for https://ui.perfetto.dev or chrome://tracing, and `costs.json`, the share of
    each kind of work. On a CPU shares are of the time of the thread that plays; on a GPU, of the time of its kernels
    and of its idleness. The profiler itself takes time for each operation, so small ones look larger than they are.
    Of several processes the first is recorded.

    after: turns before the recording, counted from where the run begins or goes on; null: 10, on a GPU 60.
    turns: how many are recorded, rounded up until each player has played equally often as in the long run.
    """

    def __init__(
        self, enabled: bool, folder: Path, after: PositiveInt | None = None, iterations: PositiveInt = 10
    ) -> None:
        self.enabled, self.folder, self.after, self.iterations = enabled, Path(folder), after, iterations
        self.profiler: profile | None = None
        if enabled:
            os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it reports its own start and stop

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        gpu = pl_module.device.type == "cuda"
        self.begin = pl_module.iteration + (self.after or (WARM_GPU if gpu else WARM))
        cycle = math.lcm(*(player.every for player in pl_module.players.values()))
        self.end = self.begin + cycle * math.ceil(self.iterations / cycle)
        self.enabled = self.enabled and trainer.is_global_zero

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, *_: Any) -> None:  # type: ignore[override]
        if not self.enabled:
            return
        if pl_module.iteration == self.end:
            self._stop(trainer, pl_module)
        elif pl_module.iteration == self.begin:
            self._start(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        if self.profiler and pl_module.iteration > self.began:
            self._stop(trainer, pl_module)
        elif self.enabled:
            log.warning(
                "profile=true: the run ended before its turn %d, from which on it is recorded; a longer one, or "
                "callbacks.profile.after=1",
                self.begin,
            )

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        if self.profiler:
            self.profiler.stop()
            trainer.profiler = self.named  # type: ignore[attr-defined]
        self.enabled, self.profiler = False, None

    def _start(self, trainer: Trainer, module: GAN) -> None:
        gpu = module.device.type == "cuda"
        self.profiler = profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])])
        self.named, trainer.profiler = trainer.profiler, Scopes()  # type: ignore[attr-defined]
        self.profiler.start()
        self.began, self.since = module.iteration, _now(module)

    def _stop(self, trainer: Trainer, module: GAN) -> None:
        assert self.profiler
        seconds, iterations = _now(module) - self.since, module.iteration - self.began
        self.profiler.stop()
        trainer.profiler = self.named  # type: ignore[attr-defined]
        found = shares(self.profiler.events() or [], seconds, device=module.device.type == "cuda")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.profiler.export_chrome_trace(str(self.folder / "trace.json.gz"))
        self.enabled, self.profiler = False, None
        content = {"seconds_per_turn": seconds / iterations, "turns": iterations, "shares": found}
        (self.folder / "costs.json").write_text(json.dumps(content, indent=1) + "\n")
        log.info("profile: %s\ntrace and costs are in %s/", words(found, seconds / iterations * 1e3), self.folder)


class Scopes(Profiler):
    """Lightning's own names (fetching a batch, each callback's hook) as scopes of the trace."""

    def __init__(self) -> None:
        super().__init__()
        self.open: dict[str, record_function] = {}

    def start(self, action_name: str) -> None:
        self.open[action_name] = record_function(action_name)
        self.open[action_name].__enter__()

    def stop(self, action_name: str) -> None:
        if scope := self.open.pop(action_name, None):
            scope.__exit__(None, None, None)


def _now(module: GAN) -> float:
    if module.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()

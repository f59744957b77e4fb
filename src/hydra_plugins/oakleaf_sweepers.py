"""Where Hydra looks for sweepers. It imports this at every start, so what they do is imported when they do it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Grid(Sweeper):
    """hydra/sweeper=grid: every combination; those that are finished are skipped, and a ranking is written."""

    def __init__(self) -> None:
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.launcher: Any = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self.begun = 0  # jobs

    def sweep(self, arguments: list[str]) -> Any:
        from oakleaf.sweeps.grid import grid

        assert self.config is not None
        grid(self.config, arguments, self.legal, self.launch)

    def legal(self, jobs: Sequence[Sequence[str]]) -> None:
        """Compose each job, so that a mistake is told before anything begins."""
        self.validate_batch_is_legal(jobs)

    def launch(self, folder: Path, jobs: dict[str, list[str]]) -> None:
        """Run jobs by the launcher, each in its folder below the sweep's, and wait until all have ended."""
        from oakleaf.sweeps.names import MEASURING, quoted

        assert self.config is not None
        measuring = [o for o in self.config.hydra.overrides.task if o.startswith(MEASURING)]
        lines = [
            [*overrides, *measuring, f"hydra.sweep.dir={quoted(folder)}", f"hydra.sweep.subdir={quoted(name)}"]
            for name, overrides in jobs.items()
        ]
        if lines:
            returned = self.launcher.launch(lines, initial_job_idx=self.begun)
            self.begun += len(lines)
            for job in returned:
                _ = job.return_value  # raises what went wrong outside of the job's own process


class Optuna(Grid):
    """hydra/sweeper=optuna: a search in the ranges that were given, by ask and tell."""

    def __init__(
        self, trials: int, batch: int, storage: str | None = None, sampler: Any = None, pruner: Any = None
    ) -> None:
        super().__init__()
        self.wanted = {"trials": trials, "batch": batch, "storage": storage, "sampler": sampler, "pruner": pruner}

    def sweep(self, arguments: list[str]) -> Any:
        from oakleaf.sweeps.search import Settings, search

        assert self.config is not None
        search(self.config, arguments, self.legal, self.launch, Settings(**self.wanted))

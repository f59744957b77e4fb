"""Oakleaf's Hydra sweepers, and the resolvers that its sweep and launcher configurations use.

Hydra imports every module of `hydra_plugins` at its start, before it composes a configuration. So this module may
import nothing slow, torch least of all: what a sweep needs is imported when it runs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from oakleaf.config.overrides import quote
from oakleaf.sweeps.devices import parallel_jobs
from oakleaf.sweeps.names import EVALUATION_PREFIX, sweep_name

OmegaConf.register_new_resolver("sweep_name", sweep_name, replace=True)
OmegaConf.register_new_resolver("parallel_jobs", parallel_jobs, replace=True)


class GridSweeper(Sweeper):
    """Sweeper `hydra/sweeper=grid`: runs every combination of the swept values, and writes a ranking.

    Finished jobs are skipped. The sweeper names the jobs and plans them; Hydra's launcher runs them.
    """

    def __init__(self) -> None:
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra passes before a sweep, and build the launcher."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher: Any = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self.launched = 0

    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep of a command's overrides."""
        from oakleaf.sweeps.grid import run_grid

        assert self.config is not None
        run_grid(self.config, arguments, self.validate_batch_is_legal, self.launch)

    def launch(self, folder: Path, jobs: dict[str, list[str]]) -> None:
        """Run jobs by the launcher and wait until all have ended.

        Args:
            folder: the sweep's folder; each job runs in a folder of its name below it.
            jobs: overrides by job name.

        Raises:
            Exception: what has gone wrong outside of the job's own process.
        """
        assert self.config is not None
        evaluation = [o for o in self.config.hydra.overrides.task if o.startswith(EVALUATION_PREFIX)]
        lines: Sequence[list[str]] = [
            [*overrides, *evaluation, f"hydra.sweep.dir={quote(folder)}", f"hydra.sweep.subdir={quote(name)}"]
            for name, overrides in jobs.items()
        ]
        if lines:
            results = self.launcher.launch(lines, initial_job_idx=self.launched)
            self.launched += len(lines)
            for result in results:
                _ = result.return_value  # raises the error of a failed launch


class OptunaSweeper(GridSweeper):
    """Sweeper `hydra/sweeper=optuna`: searches the given ranges by Optuna, and writes a ranking.

    Args:
        trials: number of trials in all.
        batch: how many trials are suggested and started together.
        storage: where the study is kept; see `oakleaf.sweeps.search.Settings`.
        sampler: configuration of an Optuna sampler.
        pruner: configuration of an Optuna pruner; null: no run is pruned.
    """

    def __init__(
        self, trials: int, batch: int, storage: str | None = None, sampler: Any = None, pruner: Any = None
    ) -> None:
        super().__init__()
        self.settings = {"trials": trials, "batch": batch, "storage": storage, "sampler": sampler, "pruner": pruner}

    def sweep(self, arguments: list[str]) -> Any:
        """Run the search of a command's overrides."""
        from oakleaf.sweeps.search import Settings, run_search

        assert self.config is not None
        run_search(self.config, arguments, self.validate_batch_is_legal, self.launch, Settings(**self.settings))

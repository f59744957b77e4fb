"""A search by Optuna: it suggests overrides, and is given the scores of the runs."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import LENGTH_OVERRIDES
from oakleaf.sweeps.grid import Launch, Validate, record_plan, sweep_settings, sweeper_overrides
from oakleaf.sweeps.job_runner import evaluation_overrides
from oakleaf.sweeps.job_state import Job, sweep_jobs
from oakleaf.sweeps.names import job_name
from oakleaf.sweeps.report import write_report

log = logging.getLogger(__name__)

MAX_REPEATED = 20  # batches of suggestions in a row without a new one, after which the space is taken for exhausted


@dataclass
class Settings:
    """The settings of `conf/hydra/sweeper/optuna.yaml`.

    Attributes:
        trials: number of trials in all, earlier starts of the same command included.
        batch: how many trials are suggested and started together.
        storage: where the study is kept: null (study.db in the sweep's folder), a file `*.journal`, or a database URL.
        sampler: configuration of an Optuna sampler.
        pruner: configuration of an Optuna pruner; null: no run is pruned.
    """

    trials: int
    batch: int
    storage: str | None
    sampler: Any
    pruner: Any


def run_search(
    config: DictConfig, arguments: Sequence[str], validate: Validate, launch: Launch, settings: Settings
) -> None:
    """Run trials until there are `settings.trials`, then write the report.

    If the folder holds earlier trials, they are continued first. If the evaluation (`sweep.*`) has changed, finished
    runs are evaluated again, without training, before the search continues.

    Args:
        config: the sweep's configuration.
        arguments: the command's overrides; those with ranges or several values are the search space.
        validate: composes the jobs of a batch before it runs.
        launch: runs jobs by Hydra's launcher.
        settings: the settings of the search.

    Raises:
        UserError: Optuna is not installed; a wrong option; earlier trials have another length; or some trials have
            failed, after all have run.
    """
    try:
        from oakleaf.sweeps.space import search_space
        from oakleaf.sweeps.study import Study
    except ImportError as error:
        raise UserError(f"hydra/sweeper=optuna needs {error.name}: uv pip install 'oakleaf[search]'") from error
    from oakleaf.sweeps.pruning import prune_in_background

    plan, evaluation = sweep_settings(config), evaluation_overrides(config)
    command = [*sweeper_overrides(config), *arguments]
    folder = Path(config.hydra.sweep.dir).absolute()
    fixed, space = search_space(arguments)
    jobs = _jobs_by_name(folder)
    _require_same_length(folder, jobs, fixed)
    # the study of another score starts empty: with the same seed its sampler would suggest what was tried already
    study = Study(folder, space, settings, plan["measure"], evaluation, seed=config.seed + len(jobs))
    if jobs:
        record_plan(folder, command, list(jobs.values()), plan)
        outdated = [job for job in jobs.values() if job.state == "done" and not job.is_done(evaluation)]
        launch(folder, {job.name: job.overrides for job in outdated})
        jobs = _jobs_by_name(folder)
    study.restore(jobs)
    repeated, tried = 0, {name for name, job in jobs.items() if job.state in ("done", "pruned")}
    while len(tried) < settings.trials and repeated < MAX_REPEATED and not study.is_complete:
        suggested = study.ask(min(settings.batch, settings.trials - len(tried)))
        planned = {job_name(swept): Job(job_name(swept), [*fixed, *swept], swept) for swept in suggested}
        validate([job.overrides for job in planned.values()])
        current = {job.name: job for job in record_plan(folder, command, list((jobs | planned).values()), plan)}
        new = [name for name in planned if name not in tried]
        pending = [name for name in new if current[name].state != "pruned" and not current[name].is_done(evaluation)]
        with prune_in_background(folder, study, new) if study.prunes else nullcontext():
            launch(folder, {name: planned[name].overrides for name in pending})
        jobs = _jobs_by_name(folder)
        study.tell(jobs)
        tried.update(new)
        repeated = 0 if new else repeated + 1
    if repeated or study.is_complete:
        log.info("the search ends after %d trials: the sampler suggests nothing new", len(tried))
    write_report(folder, OmegaConf.select(config, "logger.wandb"))


def _jobs_by_name(folder: Path) -> dict[str, Job]:
    return {job.name: job for job in sweep_jobs(folder) or []}


def _require_same_length(folder: Path, jobs: dict[str, Job], fixed: Sequence[str]) -> None:
    """Check that earlier trials have the same length, since scores of runs of different length are not comparable."""

    def length(overrides: Sequence[str]) -> list[str]:
        return sorted(o.lstrip("+") for o in overrides if o.lstrip("+").startswith(LENGTH_OVERRIDES))

    for job in jobs.values():
        earlier = length([o for o in job.overrides if o not in job.swept])
        if earlier != length(fixed):
            raise UserError(
                f"{folder} holds a search with runs of another length ({', '.join(earlier) or 'the default'}), whose "
                "scores cannot be compared; choose another folder: hydra.sweep.dir=FOLDER"
            )

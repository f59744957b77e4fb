"""A search: Optuna is asked what to try, and told what came of it."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import LENGTH
from oakleaf.sweeps.grid import Launch, Legal, begin, conclude, sweep_command, sweep_metric
from oakleaf.sweeps.job_runner import evaluation_overrides
from oakleaf.sweeps.job_state import Job, planned_jobs, read_job
from oakleaf.sweeps.names import job_name

log = logging.getLogger(__name__)

IN_VAIN = 20  # proposals in a row that were tried already: the space is small


@dataclass
class Settings:
    """conf/hydra/sweeper/optuna.yaml."""

    trials: int
    batch: int
    storage: str | None
    sampler: Any
    pruner: Any


def search(config: DictConfig, arguments: Sequence[str], legal: Legal, launch: Launch, wanted: Settings) -> None:
    """Run trials until there are as many as wanted, then report.

    Raises:
        UserError: no Optuna; another length than that of the earlier trials; or some trials failed, the others are done.
    """
    try:
        from oakleaf.sweeps.space import space
        from oakleaf.sweeps.study import Study
    except ImportError as error:
        raise UserError(f"hydra/sweeper=optuna needs {error.name}: uv pip install 'oakleaf[search]'") from error
    from oakleaf.sweeps.pruning import watcher

    settings, evaluated, command = (
        sweep_metric(config),
        evaluation_overrides(config),
        [*sweep_command(config), *arguments],
    )
    folder = Path(config.hydra.sweep.dir).absolute()
    fixed, searched = space(arguments)
    jobs = _earlier(folder)
    _alike(folder, jobs, fixed)
    seed = config.seed + len(jobs)  # a study begun anew, of another measure, would propose what was tried
    study = Study(folder, searched, wanted, settings["measure"], evaluated, seed)
    if jobs:
        begin(folder, command, list(jobs.values()), settings)
        jobs = _measured(folder, jobs, evaluated, launch)
    study.take_up(jobs)
    vain, tried = 0, {name for name, job in jobs.items() if job.state in ("done", "pruned")}
    while len(tried) < wanted.trials and vain < IN_VAIN and not study.is_out_of_memory:
        asked_for = study.ask(min(wanted.batch, wanted.trials - len(tried)))
        planned = {job_name(swept): Job(job_name(swept), [*fixed, *swept], swept) for swept in asked_for}
        legal([job.overrides for job in planned.values()])
        stands = begin(folder, command, list({**jobs, **planned}.values()), settings)
        jobs = {job.name: job for job in stands}
        new = {name: job for name, job in planned.items() if name not in tried}
        with watcher(folder, study, list(new)) if study.prunes else nullcontext():
            launch(folder, {name: job.overrides for name, job in new.items() if not _is_done(jobs[name], evaluated)})
        jobs = _earlier(folder)
        study.tell(jobs)
        tried |= new.keys()
        vain = 0 if new else vain + 1
    if vain or study.is_out_of_memory:
        log.info("the space has no more than these %d: nothing new was proposed", len(tried))
    conclude(config, folder)


def _earlier(folder: Path) -> dict[str, Job]:
    """The trials that this command has made, as they stand."""
    return {job.name: read_job(folder / job.name, job) or job for job in planned_jobs(folder) or []}


def _alike(folder: Path, jobs: dict[str, Job], fixed: Sequence[str]) -> None:
    """Runs of two lengths are none that a search could compare."""

    def length(overrides: Sequence[str]) -> list[str]:
        return sorted(o.lstrip("+") for o in overrides if o.lstrip("+").startswith(LENGTH))

    for job in jobs.values():
        before, now = length([o for o in job.overrides if o not in job.swept]), length(fixed)
        if before != now:
            raise UserError(
                f"{folder} holds a search with runs of another length ({', '.join(before) or 'the default'}), "
                "which can't be compared with these: name another folder, hydra.sweep.dir=FOLDER"
            )


def _measured(folder: Path, jobs: dict[str, Job], evaluated: list[str], launch: Launch) -> dict[str, Job]:
    """Measure what is done and was measured otherwise; nothing is trained."""
    done = [job for job in jobs.values() if job.state == "done" and not _is_done(job, evaluated)]
    launch(folder, {job.name: job.overrides for job in done})
    return _earlier(folder)


def _is_done(job: Job, evaluated: list[str]) -> bool:
    return job.state == "pruned" or (job.state == "done" and job.evaluated == evaluated)

"""A search: Optuna is asked what to try, and told what came of it."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from oakleaf.errors import Mistake
from oakleaf.sweeps.grid import Launch, Legal, begin, conclude, settled, spoken
from oakleaf.sweeps.names import job_name
from oakleaf.sweeps.record import SWEEP, Job, read, read_job
from oakleaf.sweeps.trial import asked

log = logging.getLogger(__name__)

FINISHED = ("done", "pruned", "failed")
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
        Mistake: no Optuna; or some trials failed, the others are done.
    """
    try:
        from oakleaf.sweeps.space import space
        from oakleaf.sweeps.study import Study
    except ImportError as error:
        raise Mistake(f"hydra/sweeper=optuna needs {error.name}: uv pip install 'oakleaf[search]'") from error
    from oakleaf.sweeps.pruning import watched

    settings = settled(config)
    folder = Path(config.hydra.sweep.dir).absolute()
    fixed, searched = space(arguments)
    jobs = _earlier(folder)
    study = Study(folder, searched, wanted, settings["measure"], metric_of(config), config.seed, jobs)
    vain, tried = 0, {name for name, job in jobs.items() if job.state in ("done", "pruned")}
    while len(tried) < wanted.trials and vain < IN_VAIN and not study.exhausted:
        asked_for = study.ask(min(wanted.batch, wanted.trials - len(tried)))
        planned = {job_name(swept): Job(job_name(swept), [*fixed, *swept], swept) for swept in asked_for}
        legal([job.overrides for job in planned.values()])
        stands = begin(folder, [*spoken(config), *arguments], list({**jobs, **planned}.values()), settings)
        jobs = {job.name: job for job in stands}
        new = {name: job for name, job in planned.items() if name not in tried}
        with watched(folder, study, list(new)) if study.prunes else nullcontext():
            launch(folder, {name: job.overrides for name, job in new.items() if not _is_done(jobs[name], config)})
        jobs = _earlier(folder)
        study.tell(jobs)
        tried |= new.keys()
        vain = 0 if new else vain + 1
    if vain or study.exhausted:
        log.info("the space has no more than these %d: nothing new was proposed", len(tried))
    conclude(config, folder)


def metric_of(config: DictConfig) -> list[str]:
    """How evaluate.py composes the measures: overrides."""
    return [override for override in asked(config) if override.startswith(("metric=", "extractor="))]


def _earlier(folder: Path) -> dict[str, Job]:
    """The trials that this command has made, as they stand."""
    plan: Any = read(folder / SWEEP) or {"jobs": []}
    planned = [Job(**job) for job in plan["jobs"]]
    return {job.name: read_job(folder / job.name, job) or job for job in planned}


def _is_done(job: Job, config: DictConfig) -> bool:
    return job.state == "pruned" or (job.state == "done" and job.evaluated == asked(config))

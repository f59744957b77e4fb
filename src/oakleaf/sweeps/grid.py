"""Every combination of what was swept."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from oakleaf.errors import UserError
from oakleaf.sweeps.job_runner import evaluation_overrides
from oakleaf.sweeps.job_state import SWEEP, Job, read_job, write, write_job
from oakleaf.sweeps.names import combinations, job_name
from oakleaf.sweeps.report import report

log = logging.getLogger(__name__)

Legal = Callable[[Sequence[Sequence[str]]], None]
Launch = Callable[[Path, dict[str, list[str]]], None]


def grid(config: DictConfig, arguments: Sequence[str], legal: Legal, launch: Launch) -> None:
    """Run what is not finished, then report.

    Raises:
        UserError: some jobs failed; the others are done.
    """
    settings = sweep_metric(config)
    folder = Path(config.hydra.sweep.dir).absolute()
    planned = [Job(job_name(swept), overrides, swept) for overrides, swept in combinations(arguments)]
    legal([job.overrides for job in planned])
    jobs = begin(folder, [*sweep_command(config), *arguments], planned, settings)
    waiting = [job for job in jobs if not (job.state == "done" and job.evaluated == evaluation_overrides(config))]
    if len(waiting) < len(jobs):
        log.info("%d of %d jobs are done already", len(jobs) - len(waiting), len(jobs))
    launch(folder, {job.name: job.overrides for job in waiting})
    conclude(config, folder)


def begin(folder: Path, command: Sequence[str], planned: Sequence[Job], settings: Any) -> list[Job]:
    """Write down what is to be done, and return the jobs as they stand."""
    jobs = [read_job(folder / job.name, job) or job for job in planned]
    for job in jobs:
        write_job(folder / job.name, job)
    write(folder / SWEEP, {"command": list(command), "settings": settings, "jobs": [asdict(job) for job in planned]})
    return jobs


def sweep_command(config: DictConfig) -> list[str]:
    """What the command said of the sweeper and the launcher, without which it would be another."""
    hydra = ("hydra/sweeper", "hydra.sweeper", "hydra/launcher", "hydra.launcher")
    return [override for override in config.hydra.overrides.hydra if override.lstrip("+~").startswith(hydra)]


def conclude(config: DictConfig, folder: Path) -> None:
    """The report, and a UserError that names what failed."""
    said, failed = report(folder, OmegaConf.select(config, "logger.wandb"))
    log.info("%s", said)
    if failed:
        raise UserError(failed)


def sweep_metric(config: DictConfig) -> dict[str, Any]:
    """The keys below `sweep`, checked before days are spent."""
    from oakleaf.config.paths import conf_dir
    from oakleaf.config.suggest import unknown_choice_message
    from oakleaf.config.validate import RECIPE, validate

    if config.folder:
        raise UserError(f"folder={config.folder}: each job of a sweep has its own; all of them: hydra.sweep.dir=FOLDER")
    if config.trainer.num_nodes != 1:
        raise UserError(
            "trainer.num_nodes: a job of a sweep stays on one node; start runs on several by srun, one by one"
        )
    settings: Any = OmegaConf.to_container(config.sweep)
    validate(settings, "sweep", {"sweep": RECIPE["sweep"]})
    metrics = [settings["metric"]] if isinstance(settings["metric"], str) else settings["metric"]
    for group, names in (("metric", metrics), ("extractor", [settings["extractor"]])):
        for name in names:
            if not (conf_dir() / group / f"{name}.yaml").is_file():
                raise UserError(unknown_choice_message(f"sweep.{group}", name, conf_dir() / group))
    return {"measure": settings["measure"] or metrics[0], "fake": settings["fake"]}

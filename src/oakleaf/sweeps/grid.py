"""A sweep over every combination of the swept values, and what a search (`oakleaf.sweeps.search`) shares with it."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import redact_home
from oakleaf.sweeps.job_runner import evaluation_overrides
from oakleaf.sweeps.job_state import SWEEP, Job, current_job, write_job, write_json
from oakleaf.sweeps.names import combinations, job_name
from oakleaf.sweeps.report import refresh_page, write_report

log = logging.getLogger(__name__)

SWEEP_DIR = "hydra.sweep.dir="

Validate = Callable[[Sequence[Sequence[str]]], None]  # composes the jobs' configurations, and raises on a mistake
Launch = Callable[[Path, dict[str, list[str]]], None]  # runs jobs: the sweep's folder, overrides by job name


def run_grid(config: DictConfig, arguments: Sequence[str], validate: Validate, launch: Launch) -> None:
    """Run every combination that is not finished, then write the report.

    Args:
        config: the sweep's configuration.
        arguments: the command's overrides, some with several values.
        validate: composes all jobs before the first one runs.
        launch: runs jobs by Hydra's launcher.

    Raises:
        UserError: a wrong option; or some jobs have failed, after all have run.
    """
    settings, evaluation = sweep_settings(config), evaluation_overrides(config)
    folder = Path(config.hydra.sweep.dir).absolute()
    planned = [Job(job_name(swept), overrides, swept) for overrides, swept in combinations(arguments)]
    validate([job.overrides for job in planned])
    jobs = record_plan(folder, [*sweeper_overrides(config), *arguments], planned, settings)
    waiting = [job for job in jobs if not job.is_done(evaluation)]
    if len(waiting) < len(jobs):
        log.info("%d of %d jobs are done already", len(jobs) - len(waiting), len(jobs))
    refresh_page(folder)
    launch(folder, {job.name: job.overrides for job in waiting})
    write_report(folder, OmegaConf.select(config, "logger.wandb"))


def record_plan(folder: Path, command: Sequence[str], planned: Sequence[Job], settings: dict[str, Any]) -> list[Job]:
    """Write `sweep.json` and each `job.json`, and return the jobs as they are now.

    Args:
        folder: the sweep's folder.
        command: the sweep's command line after `python train.py -m`, for the report.
        planned: all jobs of the sweep.
        settings: from `sweep_settings`.
    """
    jobs = [current_job(folder / job.name, job) for job in planned]
    for job in jobs:
        write_job(folder / job.name, job)
    plan = {"command": list(command), "settings": settings, "jobs": [asdict(job) for job in planned]}
    write_json(folder / SWEEP, plan)
    return jobs


def sweeper_overrides(config: DictConfig) -> list[str]:
    """Return the rest of the command, which Hydra keeps apart from the overrides of the runs.

    These are the overrides of the sweeper and the launcher, the folder of the sweep if it was given, relative to the
    working directory, and folders of configurations (`--config-dir`).
    """
    groups = ("hydra/sweeper", "hydra.sweeper", "hydra/launcher", "hydra.launcher")
    given = [override.lstrip("+~") for override in config.hydra.overrides.hydra]
    overrides = [override for override in config.hydra.overrides.hydra if override.lstrip("+~").startswith(groups)]
    if any(override.startswith(SWEEP_DIR) for override in given):
        overrides.append(f"{SWEEP_DIR}{os.path.relpath(config.hydra.sweep.dir)}")
    sources = OmegaConf.select(config, "hydra.runtime.config_sources") or []
    folders = [os.path.relpath(source.path) for source in sources if source.provider == "command-line"]
    return redact_home([*overrides, *(f"--config-dir={folder}" for folder in folders)])  # type: ignore[no-any-return]


def sweep_settings(config: DictConfig) -> dict[str, Any]:
    """Check the keys below `sweep` before any job runs.

    Returns:
        `measure`: the name of the score that ranks; `fake`: the number of samples that it is computed from.

    Raises:
        UserError: an unknown metric or extractor, a wrong value, or an option that a sweep cannot have.
    """
    from oakleaf.config.paths import conf_dir
    from oakleaf.config.suggest import unknown_choice_message
    from oakleaf.config.validate import TRAIN_KEYS, validate

    if config.folder:
        raise UserError(
            f"folder={config.folder}: each job of a sweep has its own folder; set hydra.sweep.dir=FOLDER for the sweep"
        )
    if config.trainer.num_nodes != 1:
        raise UserError("trainer.num_nodes: a sweep's job runs on one node; start runs on several nodes singly by srun")
    settings: Any = OmegaConf.to_container(config.sweep)
    validate(settings, "sweep", {"sweep": TRAIN_KEYS["sweep"]})
    metrics = [settings["metric"]] if isinstance(settings["metric"], str) else settings["metric"]
    for group, choices in (("metric", metrics), ("extractor", [settings["extractor"]])):
        for choice in choices:
            if not (conf_dir() / group / f"{choice}.yaml").is_file():
                raise UserError(unknown_choice_message(f"sweep.{group}", choice, conf_dir() / group))
    return {"measure": settings["measure"] or metrics[0], "fake": settings["fake"]}

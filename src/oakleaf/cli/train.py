"""python train.py: from the command line to a trained run."""

import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from oakleaf.cli import run_report
from oakleaf.cli.hardware import import_torch
from oakleaf.cli.main import run_command
from oakleaf.cli.resume import check_run_dir, find_checkpoint, resumed_config, rollback
from oakleaf.runtime.run_dir import redact_home, relative_to_cwd, remove_if_not_started
from oakleaf.sweeps.job_runner import run as run_job


def main() -> None:
    """Run the command."""
    if len(sys.argv) == 2 and sys.argv[1].startswith(run_report.STATUS):
        run_report.print_status(Path(sys.argv[1].removeprefix(run_report.STATUS)))
    else:
        run_command("train", train)


def train(config: DictConfig) -> None:
    """Train what the configuration describes; in a sweep, start the process that trains this job."""
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        return run_job(config, hydra)
    folder = Path(hydra.runtime.output_dir)
    with remove_if_not_started(folder, f"{hydra.job.name}.log"):
        _, received = train_in(folder, config, list(hydra.overrides.task), hydra.runtime.choices)
    if received:
        sys.exit(128 + received)


def train_in(folder: Path, config: DictConfig, overrides: Sequence[str], groups: Collection[str]) -> tuple[Any, int]:
    """Train or resume a run in its folder. Returns the module, and the signal that ended the run early or 0."""
    run_report.check_status_is_alone(config)
    check_run_dir(config.resume, folder, config.folder)
    import_torch()  # seconds; from here on torch and Lightning are used
    from oakleaf.runtime.nonfinite import TrainingDiverged

    checkpoint, content = find_checkpoint(config.resume, folder)
    if content:
        config = resumed_config(config, content, overrides, groups, folder)
    config = OmegaConf.merge(config, {"folder": relative_to_cwd(folder)})  # type: ignore[assignment]
    attempt = 0
    while True:
        try:
            return fit(folder, config, overrides, checkpoint, content)
        except TrainingDiverged as error:
            checkpoint, content, config = rollback(config, folder, attempt, error)
            attempt += 1


def fit(folder: Path, config: DictConfig, overrides: Sequence[str], checkpoint: Any, content: Any) -> tuple[Any, int]:
    """Build module, data and Trainer, load the checkpoint's content if there is one, and train."""
    from oakleaf.builder.build import build
    from oakleaf.builder.load import check_classes, load_weights
    from oakleaf.builder.trainer import build_trainer

    module, data, recipe = build(config)
    if content:
        check_classes(content, data)
        load_weights(module, content)
    if run_report.is_complete(module, recipe["folder"]):
        return module, 0
    trainer = build_trainer(recipe)
    run_report.begin(module, data, trainer, recipe, folder, overrides, new=content is None)
    for logger in trainer.loggers:
        logger.log_hyperparams(redact_home(recipe))
    if content:
        content.clear()  # three to four times the weights; Lightning reads the optimizers' state from the file
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    return module, run_report.finish(module, trainer, recipe["folder"])

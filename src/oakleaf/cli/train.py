"""python train.py: from the command line to a trained run."""

import contextlib
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, read_write

from oakleaf.cli import run_report
from oakleaf.cli.hardware import import_torch
from oakleaf.cli.main import log_to, run_command
from oakleaf.cli.resume import check_data, check_run_dir, find_checkpoint, resumed_config, rollback
from oakleaf.runtime.ownership import is_first_process, owned_folder
from oakleaf.runtime.run_dir import LAST, LOG, OUTPUTS, redact_home, relative_to_cwd, remove_if_not_started
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
    with run_folder(Path(hydra.runtime.output_dir), config) as folder:
        _, received = train_in(folder, config, list(hydra.overrides.task), hydra.runtime.choices)
    if received:
        sys.exit(128 + received)


@contextlib.contextmanager
def run_folder(folder: Path, config: DictConfig) -> Iterator[Path]:
    """Own a run's folder and log into its `train.log`; a folder in which nothing was begun is removed at the end.

    Args:
        folder: the folder that the configuration names.
        config: the run's configuration.

    Yields:
        The folder; another one if the program has chosen the name and another process was faster.
    """
    is_new = config.resume is None or (config.resume == "auto" and not (folder / LAST).exists())
    named_by_us = not config.folder and OUTPUTS.absolute() in folder.absolute().parents  # not by hydra.run.dir
    with owned_folder(folder, may_move=is_new and named_by_us) as owned, remove_if_not_started(owned):
        _pass_on_to_other_processes(owned)
        with log_to(owned / LOG) if is_first_process() else contextlib.nullcontext():
            yield owned


def _pass_on_to_other_processes(folder: Path) -> None:
    """Lightning starts the further processes of a run with the folder that Hydra's configuration names."""
    hydra: Any = HydraConfig.instance().cfg
    if hydra is not None and Path(hydra.hydra.runtime.output_dir or folder) != folder:
        for node, key in ((hydra.hydra.run, "dir"), (hydra.hydra.runtime, "output_dir")):
            with read_write(node):
                node[key] = str(folder)


def train_in(folder: Path, config: DictConfig, overrides: Sequence[str], groups: Collection[str]) -> tuple[Any, int]:
    """Train or resume a run in its folder, which this process owns.

    Returns:
        The module, and the signal that ended the run early or 0.
    """
    run_report.check_status_is_alone(config)
    check_run_dir(config.resume, folder, config.folder, config.init.checkpoint)
    import_torch(config)  # seconds; from here on torch and Lightning are used
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
    from oakleaf.builder.load import load_weights
    from oakleaf.builder.trainer import build_trainer
    from oakleaf.cli.init import initialize
    from oakleaf.runtime.distributed import end_processes

    module, data, recipe = build(config)
    if content:
        check_data(content, data)
        load_weights(module, content)
    elif recipe.get("init", {}).get("checkpoint"):
        initialize(module, data, recipe["init"])
    if run_report.is_complete(module, recipe["folder"]):
        return module, 0
    if is_first_process():
        data.prepare_data()  # decodes before anything of the run is written; Lightning's own call finds the result
    trainer = build_trainer(recipe)
    run_report.begin(module, data, trainer, recipe, folder, overrides, new=content is None)
    for logger in trainer.loggers:
        logger.log_hyperparams(redact_home(recipe))
    if content:
        content.clear()  # three to four times the weights; Lightning reads the optimizers' state from the file
    with end_processes(trainer):
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    return module, run_report.finish(module, trainer, recipe["folder"])

"""python train.py: from the command line to a trained run."""

import itertools
import logging
import signal
import sys
from pathlib import Path
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from oakleaf.cli.hardware import import_torch
from oakleaf.cli.main import run_command
from oakleaf.cli.resume import check_run_dir, find_checkpoint, resumed_config, rollback
from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import (
    CONFIG,
    LAST,
    OVERRIDES,
    atomic_write,
    canonical_overrides,
    redact_home,
    relative_to_cwd,
)

log = logging.getLogger(__name__)

STATUS = "sweep.status="


def main() -> None:
    if len(sys.argv) == 2 and sys.argv[1].startswith(STATUS):
        tell_status(Path(sys.argv[1].removeprefix(STATUS)))
    else:
        run_command("train", train)


def tell_status(folder: Path) -> None:
    """How far a sweep is, at once: nothing is composed."""
    from oakleaf.sweeps.status import status

    try:
        print(status(folder.expanduser()))
    except UserError as error:
        sys.exit(str(error))


def train(config: DictConfig) -> None:
    """Build what the configuration says, or what the resumed run says, and fit it; of a sweep's job, start the process
    that does."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        from oakleaf.sweeps.job_runner import run

        run(config, hydra)
        return
    folder = Path(hydra.runtime.output_dir)
    try:
        _train(config, folder, hydra)
    except (UserError, OSError):
        _forget(folder, f"{hydra.job.name}.log")
        raise


def _train(config: DictConfig, folder: Path, hydra: Any) -> None:
    if isinstance(config.sweep, DictConfig) and config.sweep.status:
        raise UserError(f"{STATUS}{config.sweep.status} stands alone: python train.py {STATUS}FOLDER")
    check_run_dir(config.resume, folder, config.folder)
    overrides = list(hydra.overrides.task)
    import_torch()  # from here on torch and Lightning, seconds after all that needs neither
    checkpoint, content = find_checkpoint(config.resume, folder)
    from oakleaf.runtime.nonfinite import TrainingDiverged

    if content:
        groups, began = set(hydra.runtime.choices), _lines(folder / OVERRIDES)
        known = [o for o in began if config.resume == "auto" or o.split("=")[0] in groups]  # said again
        config = resumed_config(config, content, [o for o in overrides if redact_home(o) not in known], groups)
    config.folder = relative_to_cwd(folder)
    _quiet()
    for attempt in itertools.count():
        try:
            return _fit(config, folder, content, checkpoint, overrides)
        except TrainingDiverged as error:
            checkpoint, content = rollback(config, folder, attempt, error)


def _fit(
    config: DictConfig, folder: Path, content: dict[str, Any] | None, checkpoint: Path | None, overrides: list[str]
) -> None:
    """Build and train; with a checkpoint, from there on."""
    from oakleaf.builder.recipe import build, check_classes, load_weights
    from oakleaf.builder.trainer import build_trainer
    from oakleaf.callbacks import Interruption

    module, data, recipe = build(config)
    if content:
        check_classes(content, data)
        load_weights(module, content)
        content.clear()  # three or four times the weights; Lightning reads the optimizers' state by itself
    if module.max_images and module.images_seen >= module.max_images:
        log.info("nothing left to do: %s images were seen. More: max_images=...\n%s", module.images_seen, config.folder)
        return
    trainer = build_trainer(recipe)
    if trainer.is_global_zero:
        _record(recipe, folder, overrides, new=content is None)
        log.info("%s", _first_words(module, data, trainer, recipe))
    for logger in trainer.loggers:
        logger.log_hyperparams(redact_home(recipe))
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    if trainer.is_global_zero:
        log.info("%s", _last_words(module, config.folder))
    if failed := getattr(trainer.strategy.checkpoint_io, "failed", ""):
        raise UserError(f"the run's end is not saved: {failed}")
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    if stopped := max((c.received for c in callbacks if isinstance(c, Interruption)), default=0):
        log.info("stopped by %s; the same command with resume=auto goes on", signal.Signals(stopped).name)
        sys.exit(128 + stopped)


def _forget(folder: Path, log_file: str) -> None:
    """Take back a run's folder in which nothing was begun: only the files that are written first, and only if there
    are no others."""
    ours = {log_file, CONFIG, OVERRIDES}
    if {path.name for path in folder.iterdir()} <= ours:
        for name in ours:
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.is_file() else []


def _record(recipe: dict[str, Any], folder: Path, overrides: list[str], new: bool) -> None:
    """config.yaml, and for a new run the command line's overrides, by which resume=auto knows it."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / CONFIG) as part:
        OmegaConf.save(OmegaConf.create(redact_home(recipe)), part)
    if new:
        with atomic_write(folder / OVERRIDES) as part:
            part.write_text("".join(f"{override}\n" for override in canonical_overrides(overrides)))


def _first_words(module: Any, data: Any, trainer: Any, recipe: dict[str, Any]) -> str:
    size = "  ".join(
        f"{name} {sum(w.numel() for w in weights) / 1e6:.2f} M weights" for name, weights in module.weights.items()
    )
    height, width = data.size
    epochs = recipe["trainer"]["max_epochs"]
    length = f"until {module.max_images:,} images are seen" if module.max_images else f"for {epochs} epochs"
    return (
        f"{recipe['model']['name']} on {recipe['data']['name']} ({data.channels} x {height} x {width}), "
        f"loss {recipe['loss']['name']}, seed {recipe['seed']}\n{size}\n"
        f"{trainer.strategy.root_device}, {_batch(data.batch_size, trainer.world_size)}, {trainer.precision}, "
        f"{length}, into {recipe['folder']}"
    )


def _batch(each: int, processes: int) -> str:
    """The batch that counts: that of all processes together."""
    if processes == 1:
        return f"batches of {each}"
    return f"{processes} process(es), batches of {processes} x {each} = {processes * each}"


def _last_words(module: Any, folder: str) -> str:
    """What the run left, and what to do with it."""
    if not module.iteration:
        return "no image was seen, so there is nothing to show"
    left = {
        "samples": "samples/  the same latents through the run, and film.gif",
        "metrics.csv": "metrics.csv  what the players paid and saw",
        str(LAST): f"{LAST}  to go on, or to draw from: python sample.py checkpoint={folder}",
    }
    lines = [f"  {words}" for name, words in left.items() if (Path(folder) / name).exists()]
    return "\n".join([f"{module.images_seen:,} images seen. Everything is in {folder}/", *lines])


def _quiet() -> None:
    """Only what concerns this run: no advertising, no advice on loaders that are not ours."""
    import warnings

    import lightning.pytorch  # noqa: F401  # which sets its own level as it is imported

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")  # ours deals by the turn
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # the average of G always is


if __name__ == "__main__":
    main()

"""What a training command writes and prints besides the training itself: its record, its first and its last lines."""

import logging
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import (
    CONFIG,
    LAST,
    LENGTH_OVERRIDES,
    OVERRIDES,
    PROFILE,
    atomic_write,
    canonical_overrides,
    redact_home,
)
from oakleaf.sweeps.status import status

log = logging.getLogger(__name__)

STATUS = "sweep.status="


def print_status(folder: Path) -> None:
    """Print how far a sweep is. Nothing is composed, so the answer comes at once."""
    try:
        print(status(folder.expanduser()))
    except UserError as error:
        sys.exit(str(error))


def check_status_is_alone(config: DictConfig) -> None:
    """Check that sweep.status= is the only override.

    Raises:
        UserError: it was given together with others.
    """
    if isinstance(config.sweep, DictConfig) and config.sweep.status:
        raise UserError(f"{STATUS}{config.sweep.status} stands alone: python train.py {STATUS}FOLDER")


def is_complete(module: Any, folder: str) -> bool:
    """Whether a resumed run has already seen `max_images`; then say so."""
    if module.max_images is None or module.images_seen < module.max_images:
        return False
    log.info("nothing left to do: %s images were seen. More: max_images=...\n%s", module.images_seen, folder)
    return True


def begin(
    module: Any,
    data: Any,
    trainer: Any,
    recipe: dict[str, Any],
    folder: Path,
    overrides: Sequence[str],
    new: bool,
) -> None:
    """Write the run's record and print its first lines, in the first process."""
    if trainer.is_global_zero:
        record(recipe, folder, overrides, new)
        log.info("%s", summary(module, data, trainer, recipe))
        if new:
            set_recipe_length(trainer.callbacks, overrides)
        if recipe["trainer"].get("enable_model_summary"):
            from oakleaf.runtime.model_summary import model_summary

            log.info("%s", model_summary(_networks(module)))


def set_recipe_length(callbacks: Sequence[Any], overrides: Sequence[str]) -> None:
    """Tell `ExpectedDuration` how long the recipe is by itself, if the command sets another length."""
    from oakleaf.builder.compose import compose_config
    from oakleaf.callbacks import ExpectedDuration

    others = [override for override in overrides if not override.lstrip("+").startswith(LENGTH_OVERRIDES)]
    if len(others) == len(overrides):
        return
    try:
        own = compose_config("train", others)
        length = own.max_images, own.trainer.max_epochs
    except (HydraException, OmegaConfBaseException):  # a configuration in a folder of the user's own
        return
    for callback in callbacks:
        if isinstance(callback, ExpectedDuration):
            callback.recipe_images, callback.recipe_epochs = length


def record(recipe: dict[str, Any], folder: Path, overrides: Sequence[str], new: bool) -> None:
    """Write config.yaml and run.json, and for a new run overrides.txt, by which resume=auto recognises it."""
    from oakleaf.report.provenance import new_session, read_sessions, write_sessions

    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / CONFIG) as part:
        OmegaConf.save(OmegaConf.create(redact_home(recipe)), part)
    sessions = [] if new else read_sessions(folder)
    write_sessions(folder, [*sessions, new_session(shlex.join(["python", "train.py", *overrides]))])
    if new:
        with atomic_write(folder / OVERRIDES) as part:
            part.write_text("".join(f"{override}\n" for override in canonical_overrides(overrides)))


def summary(module: Any, data: Any, trainer: Any, recipe: dict[str, Any]) -> str:
    """Return the first lines of a run: system, data, loss, seed, sizes, device, batch, length, folder."""
    parameters = "  ".join(
        f"{name} {_millions(sum(w.numel() for w in network.parameters()))} weights"
        for name, network in _networks(module).items()
    )
    is_gan = hasattr(module, "game")
    understood = f"{data.summary}\n" if data.summary else ""
    system = recipe["model"]["name"] if is_gan else type(module).__name__
    loss = f"loss {recipe['loss']['name']}, " if is_gan else ""
    height, width = data.size
    epochs = recipe["trainer"]["max_epochs"]
    length = f"until {module.max_images:,} images are seen" if module.max_images else f"for {epochs} epochs"
    return (
        f"{system} on {recipe['data']['name']} ({data.channels} x {height} x {width}), "
        f"{loss}seed {recipe['seed']}\n{understood}{parameters}\n"
        f"{trainer.strategy.root_device}, {_batch(data.batch_size, trainer.world_size)}, {trainer.precision}, "
        f"{length}, into {recipe['folder']}"
    )


def _networks(module: Any) -> dict[str, Any]:
    """The players' networks by name; of a module that is no GAN, its networks."""
    if hasattr(module, "players"):
        return {name: module.network(name) for name in module.players}
    return {name: network for name, network in module.named_children() if any(True for _ in network.parameters())}


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 10_000 else f"{count:,}"


def _batch(each: int, processes: int) -> str:
    """The batch size, and over all processes together if there are several."""
    if processes == 1:
        return f"batches of {each}"
    return f"{processes} processes, batches of {processes} x {each} = {processes * each}"


def finish(module: Any, trainer: Any, folder: str) -> int:
    """Print what the run left, and report a checkpoint that could not be saved.

    Returns:
        The number of the signal that ended the run early, or 0.

    Raises:
        UserError: the last checkpoint could not be saved.
    """
    from oakleaf.callbacks import Interruption

    received = max((c.received for c in trainer.callbacks if isinstance(c, Interruption)), default=0)
    if trainer.is_global_zero:
        log.info("%s", _last_lines(module, folder, received))
    if failed := getattr(trainer.strategy.checkpoint_io, "failed", ""):
        raise UserError(f"the run's end is not saved: {failed}")
    return received


def _last_lines(module: Any, folder: str, received: int) -> str:
    if not module.iteration:
        return "no image was seen, so there is nothing to show"
    files = {
        "samples": "samples/  samples of the same latents through the run, and animation.gif",
        "metrics.csv": "metrics.csv  losses and diagnostics",
        PROFILE: f"{PROFILE}/  where the time went",
        str(LAST): f"{LAST}  to resume, or to sample from: python sample.py checkpoint={folder}",
    }
    lines = [f"  {text}" for name, text in files.items() if (Path(folder) / name).exists()]
    if received:
        lines.append(f"stopped by {signal.Signals(received).name}; the same command with resume=auto resumes")
    return "\n".join([*lines, f"{module.images_seen:,} images seen. Everything is in {folder}/"])

"""Resume a run: find its checkpoint, merge its configuration with this command's overrides, and roll back a diverged
run."""

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import LAST, OVERRIDES, redact_home, relative_to_cwd

log = logging.getLogger(__name__)

Content = dict[str, Any]


def check_run_dir(resume: str | None, folder: Path, requested: str | None, init: str | None = None) -> None:
    """Check that a run may write into its folder.

    Args:
        resume: the option resume=.
        folder: the run's folder.
        requested: the option folder=.
        init: the option init=.

    Raises:
        UserError: a run is resumed and initialised, a resumed run was given another folder, or a new run would
            overwrite an old one.
    """
    if init and resume not in (None, "auto"):
        raise UserError(f"init={init} starts a new run, and resume= continues one; give one of them")
    if requested and Path(str(requested)).expanduser().absolute() != folder.absolute():
        raise UserError(f"folder={requested}: a resumed run stays in its own folder, {relative_to_cwd(folder)}")
    if resume is None and (folder / LAST).exists():
        raise UserError(f"{relative_to_cwd(folder)} holds a run: resume={relative_to_cwd(folder)} resumes it")


def find_checkpoint(resume: str | None, folder: Path) -> tuple[Path, Content] | tuple[None, None]:
    """Return the checkpoint that a run resumes from, and its content; (None, None) for a new run.

    Raises:
        UserError: there is no checkpoint to resume from.
    """
    if resume is None:
        return None, None
    if not isinstance(resume, str):
        raise UserError(f"resume={resume}: the folder of a run, one of its checkpoints, or auto")
    from oakleaf.runtime.checkpoint_io import checkpoint_path, newest_checkpoint, read_checkpoint, require_resumable

    if resume != "auto":
        content = read_checkpoint(path := checkpoint_path(resume))
        require_resumable(content, path)
        return path, content
    checkpoints, found = (folder / LAST).parent, None
    if list(checkpoints.glob("*.ckpt")) and (found := newest_checkpoint(checkpoints)) is None:
        raise UserError(
            f"resume=auto: no checkpoint in {relative_to_cwd(checkpoints)} is whole; name another folder, "
            "folder=FOLDER, or remove the damaged ones to start again"
        )
    log.info("resume=auto: %s", f"resuming {relative_to_cwd(found[0])}" if found else "no such run yet, starting one")
    return found or (None, None)


def check_data(content: Content, data: Any) -> None:
    """Check that a resumed run has the data that it began with.

    Raises:
        UserError: other classes, other pictures, or pictures that are resized in another way.
    """
    from oakleaf.builder.load import changed_data, check_classes

    check_classes(content, data)
    if changed := changed_data(content, data):
        raise UserError(
            f"{changed}; a resumed run keeps its data, and a run on other data is a new one: init=RUN begins it with "
            "these weights"
        )


def resumed_config(
    config: DictConfig, content: Content, overrides: Sequence[str], groups: Collection[str], folder: Path
) -> DictConfig:
    """Return the checkpoint's configuration with this command's overrides.

    How a run is executed (trainer, logger, callbacks) may change as a whole; what is trained may change by single
    values only. Overrides that only repeat the command that started the run are ignored.

    Raises:
        UserError: an override that would make another run of it.
    """
    config_of_run: Any = OmegaConf.create(content["hyper_parameters"])
    for key in [key for key in config if key not in config_of_run]:  # options that are newer than the run
        config_of_run[key] = OmegaConf.to_container(config, resolve=False)[key]  # type: ignore[index, call-overload]
    changed = _changed_overrides(config.resume, overrides, groups, folder)
    for override in OverridesParser.create().parse_overrides(changed):
        key = override.get_key_element().lstrip("+~")
        if key in ("trainer", "logger", "callbacks"):
            length = config_of_run.trainer.max_epochs
            config_of_run[key] = OmegaConf.create(OmegaConf.to_container(config[key], resolve=False))
            if not any(o.startswith("trainer.max_epochs=") for o in changed):
                config_of_run.trainer.max_epochs = length
        elif key in groups and not _is_same_choice(config, config_of_run, key, override.value()):
            raise UserError(f"resume= keeps the run's own {key}: single values may change, a new {key} is a new run")
        elif key in ("data.size", "data.channels"):
            raise UserError(f"resume= keeps the run's own {key}: its networks were made for it")
        elif _changes_networks(config_of_run, key, override.value()):
            raise UserError(
                f"resume= keeps the run's own networks, which {key} would change: init=RUN begins a new run with their "
                "weights"
            )
        elif key not in groups and key != "resume":
            OmegaConf.update(config_of_run, key, override.value(), force_add=True)
            if key == "seed":
                config_of_run.data.seed = config_of_run.seed
    if "dataset" not in config_of_run.data and not any(override.startswith("data.classes=") for override in changed):
        config_of_run.data.classes = None  # read from the data again, and compared with the checkpoint's
    return config_of_run  # type: ignore[no-any-return]


def _changes_networks(config_of_run: DictConfig, key: str, value: Any) -> bool:
    """Whether an override gives a part of the model that is a network, a prior or a condition another value."""
    parts = key.split(".")
    depth = {"model.game": 3, "model.critics": 4}.get(".".join(parts[:2]))
    node = OmegaConf.select(config_of_run, ".".join(parts[:depth])) if depth and len(parts) >= depth else None
    if parts[2:3] == ["terms"] or not isinstance(node, DictConfig) or "_target_" not in node:
        return False
    old = OmegaConf.select(config_of_run, key)
    return bool((OmegaConf.to_container(old, resolve=True) if OmegaConf.is_config(old) else old) != value)


def _is_same_choice(config: DictConfig, config_of_run: DictConfig, group: str, choice: Any) -> bool:
    """Whether a group's choice is the run's own, by its name; a group without a name is compared as a whole."""
    name = OmegaConf.select(config_of_run, f"{group}.name")
    if name is not None:
        return bool(name == choice)
    mine, runs = (OmegaConf.select(one, group.replace("/", ".")) for one in (config, config_of_run))
    if mine is None or runs is None:
        return False
    return bool(OmegaConf.to_container(mine) == OmegaConf.to_container(runs))


def _changed_overrides(resume: str, overrides: Sequence[str], groups: Collection[str], folder: Path) -> list[str]:
    """Return this command's overrides without those that started the run."""
    file = folder / OVERRIDES
    started = file.read_text().splitlines() if file.is_file() else []
    repeated = [o for o in started if resume == "auto" or o.split("=")[0] in groups]
    return [override for override in overrides if redact_home(override) not in repeated]


def rollback(config: DictConfig, folder: Path, attempt: int, error: UserError) -> tuple[Path, Content, DictConfig]:
    """Return the newest checkpoint, its content, and the configuration with halved learning rates, to retry after
    divergence.

    Args:
        config: the configuration of the attempt that diverged; it is not changed.
        folder: the run's folder.
        attempt: number of this attempt, from 0.
        error: why it diverged.

    Raises:
        UserError: `error`, if no rollback is left, there is no checkpoint, or there are several processes.
    """
    from oakleaf.runtime.checkpoint_io import newest_checkpoint
    from oakleaf.runtime.distributed import rank_and_world_size

    allowed = attempt < config.nonfinite.max_rollbacks and rank_and_world_size()[1] == 1
    found = newest_checkpoint((folder / LAST).parent) if allowed else None
    if found is None:
        raise error
    # all are read before any is set: the encoder's is ${optim.generator.lr}
    halves = {name: {"lr": player.lr / 2} for name, player in config.optim.items() if player and "lr" in player}
    log.warning("%s\nrolled back to %s, with half the learning rates", error, relative_to_cwd(found[0]))
    return *found, OmegaConf.merge(config, {"optim": halves})  # type: ignore[return-value]

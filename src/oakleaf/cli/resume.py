"""Going on: the checkpoint that a run goes on with, its recipe with this command's overrides, and the way back after a
run has diverged.
"""

import logging
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import LAST, relative_to_cwd

log = logging.getLogger(__name__)


def check_run_dir(resume: str | None, folder: Path, named: str | None) -> None:
    """Raises:
    UserError: another folder is `named` than the run's own, or a run would be written over.
    """
    if named and Path(str(named)).expanduser().absolute() != folder.absolute():
        raise UserError(f"folder={named}: a run that is resumed stays in its own, {relative_to_cwd(folder)}")
    if resume is None and (folder / LAST).exists():
        raise UserError(f"{relative_to_cwd(folder)} holds a run: resume={relative_to_cwd(folder)} goes on with it")


def find_checkpoint(resume: str | None, folder: Path) -> tuple[Path, dict[str, Any]] | tuple[None, None]:
    """The checkpoint that the run goes on with, and its content.

    Raises:
        UserError: there is none to go on with.
    """
    if resume is None:
        return None, None
    if not isinstance(resume, str):
        raise UserError(f"resume={resume}: the folder of a run, one of its checkpoints, or auto")
    if resume == "auto":
        rank_and_world_size, found = (folder / LAST).parent, None
        if list(rank_and_world_size.glob("*.ckpt")):
            from oakleaf.runtime.checkpoint_io import newest_checkpoint

            if (found := newest_checkpoint(rank_and_world_size)) is None:
                raise UserError(
                    f"resume=auto: no checkpoint in {relative_to_cwd(rank_and_world_size)} is whole; name another folder, "
                    "folder=FOLDER, or remove the damaged ones to begin anew"
                )
        words = f"going on with {relative_to_cwd(found[0])}" if found else "no such run yet, beginning one"
        log.info("resume=auto: %s", words)
        return found or (None, None)
    from oakleaf.runtime.checkpoint_io import checkpoint_path, read_checkpoint

    return (path := checkpoint_path(resume)), read_checkpoint(path)


def resumed_config(config: DictConfig, content: dict[str, Any], overrides: list[str], groups: set[str]) -> DictConfig:
    """The checkpoint's recipe with this command's overrides: how it is run may change as a whole, what is trained only
    value by value.
    """
    recipe = OmegaConf.create(content["hyper_parameters"])
    for key in [key for key in config if key not in recipe]:  # options that came after the run
        recipe[key] = OmegaConf.to_container(config, resolve=False)[key]  # type: ignore[index, call-overload]
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.get_key_element().lstrip("+~")
        if key in ("trainer", "logger", "callbacks"):
            length = recipe.trainer.max_epochs
            recipe[key] = OmegaConf.create(OmegaConf.to_container(config[key], resolve=False))
            if not any(o.startswith("trainer.max_epochs=") for o in overrides):
                recipe.trainer.max_epochs = length
        elif key in groups and OmegaConf.select(recipe, f"{key}.name") != override.value():
            raise UserError(f"resume= keeps the run's own {key}: single values may change, a new {key} is a new run")
        elif key in ("data.size", "data.channels"):
            raise UserError(f"resume= keeps the run's own {key}: its networks were made for it")
        elif key not in groups and key != "resume":
            OmegaConf.update(recipe, key, override.value(), force_add=True)
            if key == "seed":
                recipe.data.seed = recipe.seed
    if not any(override.startswith("data.classes=") for override in overrides):
        recipe.data.classes = None  # filled in anew, and compared with what the checkpoint knows
    return recipe


def rollback(config: DictConfig, folder: Path, attempt: int, error: UserError) -> tuple[Path, dict[str, Any]]:
    """The last checkpoint, to go back to after a run has diverged, and half the rates in the configuration.

    Raises:
        UserError: the error, if it is not wanted again, or there is no checkpoint.
    """
    from oakleaf.runtime.checkpoint_io import newest_checkpoint
    from oakleaf.runtime.distributed import rank_and_world_size

    wanted = attempt < config.nonfinite.max_rollbacks and rank_and_world_size()[1] == 1
    found = newest_checkpoint((folder / LAST).parent) if wanted else None
    if found is None:
        raise error
    halves = {name: player.lr / 2 for name, player in config.optim.items() if player and "lr" in player}
    for name, lr in halves.items():  # after all were read: the encoder's is ${optim.generator.lr}
        config.optim[name].lr = lr
    log.warning("%s\nback to %s, and on with half the rates", error, relative_to_cwd(found[0]))
    return found

"""Checkpoints on disk: written beside the old one and renamed, read as data alone."""

import hashlib
import logging
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from oakleaf.config.allowlist import scan_untrusted
from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import LAST

log = logging.getLogger(__name__)

READ_ERRORS = (  # what readers of pickles, archives and tensors say of a damaged file
    pickle.UnpicklingError, zipfile.BadZipFile, ArithmeticError, AttributeError, EOFError, LookupError, MemoryError,
    NotImplementedError, OSError, RuntimeError, TypeError, ValueError, AssertionError, ImportError,
)  # fmt: skip

OURS = {"state_dict": dict, "hyper_parameters": dict, "iteration": int, "images_seen": int, "trained_on": dict}
OLD_KEYS = {"turn", "images", "hyper_parameters"}  # of version 0.1
LIGHTNINGS = {
    "optimizer_states": list, "lr_schedulers": list, "loops": dict, "callbacks": dict, "epoch": int, "global_step": int,
}  # fmt: skip

PART = ".part"  # of a checkpoint that is being written


class AtomicCheckpointIO(TorchCheckpointIO):
    """A checkpoint is either the old file or the new one, whole, whenever the power goes.

    Lightning writes into the temporary folder and moves the file; from another file system that is a copy over the old
    one, and a kill has left 0 bytes. Where there is no room the old one stays, it is said, and the run goes on:
    `failed` is what became of the last saving, "" if all went well.
    """

    failed = ""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}{PART}")
        self.failed = ""
        try:
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except (OSError, RuntimeError) as error:  # torch turns what a write raises into a RuntimeError
            part.unlink(missing_ok=True)
            self.failed = f"{path} could not be saved ({_reason(error)}): what was saved before stays"
            log.error("%s, and the run goes on", self.failed)
            return
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        if hasattr(os, "O_DIRECTORY"):  # the name's own entry, where folders can be opened
            folder = os.open(path.parent, os.O_DIRECTORY)
            os.fsync(folder)
            os.close(folder)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """Never anything but plain containers and tensors, whatever the caller asks."""
        return read_checkpoint(path)


def checkpoint_path(place: str | os.PathLike[str]) -> Path:
    """The checkpoint file meant by a path: itself, or the last one of a run's folder.

    Raises:
        UserError: neither.
    """
    path = Path(place).expanduser()
    if path.is_dir():
        for candidate in (path / LAST, path / LAST.name):
            if candidate.is_file():
                return candidate
        raise UserError(f"{path} holds no {LAST}: is it a run's folder?")
    if not path.is_file():
        raise UserError(f"{path}: there is no such file or folder")
    return path


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Of a run's checkpoints the one that was written last and is whole, and its content; damaged ones are told. None
    if none is."""
    files = [path for path in folder.glob("*.ckpt") if path.is_file()]
    for path in sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            return path, read_checkpoint(path)
        except UserError as error:
            log.warning("%s; looking for an older one", error)
    return None


def remove_partial_files(folder: Path) -> None:
    """Remove what a kill in the midst of a saving has left."""
    for part in folder.glob(f".*.ckpt.*{PART}"):
        part.unlink(missing_ok=True)


def _reason(error: BaseException) -> str:
    """Why the disk refused; torch keeps the system's words in what it was doing when it failed."""
    while error.__context__ is not None and not isinstance(error, OSError):
        error = error.__context__
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:120]


def file_hash(file: Path) -> str:
    """Sixteen digits that tell this file from others."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "blake2b").hexdigest()[:16]


def read_checkpoint(place: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint on the CPU with `torch.load(weights_only=True)`, after checking its archive and its recipe.

    Args:
        place: a checkpoint file, or the folder of a run (its last checkpoint is read).

    Returns:
        The content: `state_dict`, `hyper_parameters` (the recipe), `iteration`, `images_seen`, `trained_on`, and what
        Lightning stores.

    Raises:
        UserError: no file, a damaged file, a file that Oakleaf did not write, or one that an older version wrote.
    """
    path = checkpoint_path(place)
    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except READ_ERRORS as error:
        raise UserError(f"{path} is no checkpoint, or a damaged one ({type(error).__name__})") from error
    if isinstance(content, dict) and OLD_KEYS <= content.keys():
        raise UserError(f"{path} was written by Oakleaf 0.1, and only version 0.1.0 can read it")
    if not isinstance(content, dict) or not all(isinstance(content.get(name), kind) for name, kind in OURS.items()):
        raise UserError(f"{path} is no checkpoint of Oakleaf's: its recipe is missing")
    if wrong := [name for name, kind in LIGHTNINGS.items() if not isinstance(content.get(name, kind()), kind)]:
        raise UserError(f"{path} is damaged: its {wrong[0]} are no {LIGHTNINGS[wrong[0]].__name__}")
    scan_untrusted(content["hyper_parameters"], str(path))
    _check_trained_on(content["trained_on"], path)
    return content


def _check_trained_on(trained_on: dict[str, Any], path: Path) -> None:
    """Raises:
    UserError: the class names or the hash of the data have the wrong type.
    """
    names, data = trained_on.get("classes"), trained_on.get("data")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not isinstance(data, str):
        raise UserError(f"{path} is damaged: what it learned from is no list of names")


def _check_archive(path: Path) -> None:
    """Checkpoints are stored as they are: what is packed may unfold to any size. Each part has a checksum, which torch
    writes and does not read.

    Raises:
        BadZipFile: it is packed, or no archive, or a bit is not as it was written; archives of torch < 1.6 are none.
    """
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()) or archive.testzip():
            raise zipfile.BadZipFile

"""Reading and writing of checkpoints: written atomically, read as data only, with a check of every part."""

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
from oakleaf.runtime.run_dir import LAST, partial_file

log = logging.getLogger(__name__)

READ_ERRORS = (  # what the readers of pickles, archives and tensors raise on a damaged file
    pickle.UnpicklingError, zipfile.BadZipFile, ArithmeticError, AttributeError, EOFError, LookupError, MemoryError,
    NotImplementedError, OSError, RuntimeError, TypeError, ValueError, AssertionError, ImportError,
)  # fmt: skip

REQUIRED_KEYS = {
    "state_dict": dict, "hyper_parameters": dict, "iteration": int, "images_seen": int, "trained_on": dict,
}  # fmt: skip
LIGHTNING_KEYS = {
    "optimizer_states": list, "lr_schedulers": list, "loops": dict, "callbacks": dict, "epoch": int, "global_step": int,
}  # fmt: skip
KEYS_OF_VERSION_0_1 = {"turn", "images", "hyper_parameters"}


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning plugin that writes checkpoints atomically: after a power cut the file is either the old or the new one.

    A checkpoint is written to a temporary file in the same folder, forced to the disk (`fsync`), and then renamed to
    its name. Renaming within a file system is atomic, while overwriting is not: a process that is killed while it
    overwrites leaves a file of which a part is missing. The order matters, since a rename can reach the disk before
    the content does. At last the folder is synchronised, so that the new name is on the disk as well. Lightning's own
    plugin writes to the system's temporary folder; if that is another file system, moving the file is a copy over the
    old one.

    If the disk is full, the previous file stays, the error is logged, and training continues.

    Attributes:
        failed: error message of the last saving; empty if it has succeeded.
    """

    failed = ""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: the content, from Lightning.
            path: the file.
            storage_options: not used.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_file(path)
        self.failed = ""
        try:
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except (OSError, RuntimeError) as error:  # torch turns an OSError while writing into a RuntimeError
            partial.unlink(missing_ok=True)
            self.failed = f"{path} could not be saved ({_disk_error(error)}), the previous file is kept"
            log.error("%s; training continues", self.failed)
            return
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        if hasattr(os, "O_DIRECTORY"):  # only some systems can open a folder
            folder = os.open(path.parent, os.O_DIRECTORY)
            os.fsync(folder)
            os.close(folder)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint by `read_checkpoint`: on the CPU and with `weights_only=True`, whatever is passed."""
        return read_checkpoint(path)


def checkpoint_path(place: str | os.PathLike[str]) -> Path:
    """Return the checkpoint file that a path means.

    Args:
        place: a checkpoint file, or the folder of a run (its last checkpoint).

    Raises:
        UserError: there is no such file, or the folder has no checkpoint.
    """
    path = Path(place).expanduser()
    if path.is_dir():
        for candidate in (path / LAST, path / LAST.name):
            if candidate.is_file():
                return candidate
        raise UserError(f"{path} holds no {LAST}: is it the folder of a run?")
    if not path.is_file():
        raise UserError(f"{path}: there is no such file or folder")
    return path


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the most recently written checkpoint of a folder that can be read, and its content.

    Damaged checkpoints are logged and skipped. None if there is no readable one.
    """
    files = [path for path in folder.glob("*.ckpt") if path.is_file()]
    for path in sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            return path, read_checkpoint(path)
        except UserError as error:
            log.warning("%s; trying an older one", error)
    return None


def _disk_error(error: BaseException) -> str:
    """Return the system's reason for a failed write, which torch's RuntimeError has as its context."""
    while error.__context__ is not None and not isinstance(error, OSError):
        error = error.__context__
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:120]


def file_hash(file: Path) -> str:
    """Return 16 hexadecimal digits (BLAKE2b) that identify a file's content."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "blake2b").hexdigest()[:16]


def read_checkpoint(place: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint on the CPU as data, after a check of its archive and of its configuration.

    A checkpoint may come from an untrusted source. `torch.load(weights_only=True)` builds only tensors and plain
    containers, and `scan_untrusted` checks the stored configuration before anybody resolves it.

    Args:
        place: a checkpoint file, or the folder of a run (its last checkpoint is read).

    Returns:
        The content: `state_dict`, `hyper_parameters` (the configuration), `iteration`, `images_seen`, `trained_on`, and
        what Lightning stores.

    Raises:
        UserError: no file, a damaged file, a file that Oakleaf did not write, or one of an older version.
    """
    path = checkpoint_path(place)
    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except READ_ERRORS as error:
        raise UserError(f"{path} is not a checkpoint, or it is damaged ({type(error).__name__})") from error
    if isinstance(content, dict) and content.keys() >= KEYS_OF_VERSION_0_1:
        raise UserError(f"{path} was written by Oakleaf 0.1, and only version 0.1.0 can read it")
    if not isinstance(content, dict) or not all(isinstance(content.get(k), kind) for k, kind in REQUIRED_KEYS.items()):
        raise UserError(f"{path} is not a checkpoint of Oakleaf: it has no configuration, or misses another part")
    if wrong := [key for key, kind in LIGHTNING_KEYS.items() if not isinstance(content.get(key, kind()), kind)]:
        raise UserError(f"{path} is damaged: its {wrong[0]} should be a {LIGHTNING_KEYS[wrong[0]].__name__}")
    scan_untrusted(content["hyper_parameters"], str(path))
    _check_trained_on(content["trained_on"], path)
    return content


def _check_trained_on(trained_on: dict[str, Any], path: Path) -> None:
    """Check the class names and the hash of the training data.

    Raises:
        UserError: they have the wrong type.
    """
    classes, data = trained_on.get("classes"), trained_on.get("data")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes) or not isinstance(data, str):
        raise UserError(f"{path} is damaged: the class names of its training data should be a list of names")


def _check_archive(path: Path) -> None:
    """Check that the archive is not compressed, and the checksum of each part.

    torch stores the parts uncompressed; a compressed one could expand to any size in memory. torch writes checksums but
    does not check them when it reads.

    Raises:
        BadZipFile: the file is compressed, damaged, or not an archive (as files of torch < 1.6).
    """
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()) or archive.testzip():
            raise zipfile.BadZipFile

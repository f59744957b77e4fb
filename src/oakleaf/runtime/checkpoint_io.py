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

from oakleaf.config.allowlist import examine
from oakleaf.errors import Mistake
from oakleaf.runtime.run_dir import LAST

log = logging.getLogger(__name__)

DAMAGED = (  # what readers of pickles, archives and tensors say of a damaged file
    pickle.UnpicklingError, zipfile.BadZipFile, ArithmeticError, AttributeError, EOFError, LookupError, MemoryError,
    NotImplementedError, OSError, RuntimeError, TypeError, ValueError, AssertionError, ImportError,
)  # fmt: skip

OURS = {"state_dict": dict, "hyper_parameters": dict, "turn": int, "images": int}
LIGHTNINGS = {
    "optimizer_states": list, "lr_schedulers": list, "loops": dict, "callbacks": dict, "epoch": int, "global_step": int,
    "learned": dict,
}  # fmt: skip

PART = ".part"  # of a checkpoint that is being written


class AtomicIO(TorchCheckpointIO):
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
        return read(path)


def find(place: str | os.PathLike[str]) -> Path:
    """The checkpoint file meant by a path: itself, or the last one of a run's folder.

    Raises:
        Mistake: neither.
    """
    path = Path(place).expanduser()
    if path.is_dir():
        for candidate in (path / LAST, path / LAST.name):
            if candidate.is_file():
                return candidate
        raise Mistake(f"{path} holds no {LAST}: is it a run's folder?")
    if not path.is_file():
        raise Mistake(f"{path}: there is no such file or folder")
    return path


def newest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Of a run's checkpoints the one that was written last and is whole, and its content; damaged ones are told. None
    if none is."""
    files = [path for path in folder.glob("*.ckpt") if path.is_file()]
    for path in sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            return path, read(path)
        except Mistake as error:
            log.warning("%s; looking for an older one", error)
    return None


def tidy(folder: Path) -> None:
    """Remove what a kill in the midst of a saving has left."""
    for part in folder.glob(f".*.ckpt.*{PART}"):
        part.unlink(missing_ok=True)


def _reason(error: BaseException) -> str:
    """Why the disk refused; torch keeps the system's words in what it was doing when it failed."""
    while error.__context__ is not None and not isinstance(error, OSError):
        error = error.__context__
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:120]


def digest(file: Path) -> str:
    """Sixteen digits that tell this file from others."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "blake2b").hexdigest()[:16]


def read(place: str | os.PathLike[str]) -> dict[str, Any]:
    """A checkpoint's content, on the CPU, loaded with `weights_only=True`.

    Raises:
        Mistake: no file, a damaged one, or one that Oakleaf did not write.
    """
    path = find(place)
    try:
        _unpacked(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        raise Mistake(f"{path} is no checkpoint, or a damaged one ({type(error).__name__})") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(name), kind) for name, kind in OURS.items()):
        raise Mistake(f"{path} is no checkpoint of Oakleaf's: its recipe is missing")
    if strange := [name for name, kind in LIGHTNINGS.items() if not isinstance(content.get(name, kind()), kind)]:
        raise Mistake(f"{path} is damaged: its {strange[0]} are no {LIGHTNINGS[strange[0]].__name__}")
    examine(content["hyper_parameters"], str(path))
    content["hyper_parameters"] = of_today(content["hyper_parameters"])
    _learned(content.get("learned", {}), path)
    content["state_dict"] = {_today(str(name)): weight for name, weight in content["state_dict"].items()}
    return content


def of_today(recipe: Any) -> Any:
    """A stored recipe in the words of today: a Label's `width` was `classes` until 2026-11-23."""
    if isinstance(recipe, list):
        return [of_today(below) for below in recipe]
    if not isinstance(recipe, dict):
        return recipe
    old = recipe.get("_target_") == "oakleaf.conditioning.condition.Label" and "classes" in recipe
    return {"width" if old and key == "classes" else key: of_today(below) for key, below in recipe.items()}


def _learned(told: dict[str, Any], path: Path) -> None:
    """Raises:
    Mistake: no names of classes and no hash.
    """
    names, data = told.get("classes", []), told.get("data", "")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not isinstance(data, str):
        raise Mistake(f"{path} is damaged: what it learned from is no list of names")


def _today(name: str) -> str:
    """Where a weight is now: once there was only the generator's average."""
    return name.replace("average.", "averages.generator.", 1) if name.startswith("average.") else name


def _unpacked(path: Path) -> None:
    """Checkpoints are stored as they are: what is packed may unfold to any size. Each part has a checksum, which torch
    writes and does not read.

    Raises:
        BadZipFile: it is packed, or no archive, or a bit is not as it was written; archives of torch < 1.6 are none.
    """
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()) or archive.testzip():
            raise zipfile.BadZipFile

"""The folder of a run: its files, its name, the run that `resume=` means, and writing that survives a full disk."""

import contextlib
import itertools
import logging
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from oakleaf.errors import UserError

log = logging.getLogger(__name__)

OUTPUTS = Path("outputs")
LENGTH_OVERRIDES = ("max_images=", "trainer.max_epochs=", "trainer.max_time=")
# in a run's folder:
LAST = Path("checkpoints") / "last.ckpt"
BEST = Path("checkpoints") / "best.ckpt"
CONFIG = "config.yaml"  # the composed configuration
RUN = "run.json"  # commands, commit, versions and machine (`oakleaf.report.provenance`)
PROFILE = "profile"  # the folder of profiles
OVERRIDES = "overrides.txt"  # the overrides of the command that started it, in canonical form
LOG = "train.log"
OWNER = ".owner"  # locked by the process that writes into the folder (`oakleaf.runtime.ownership`)
FIRST_FILES = (OWNER, LOG, CONFIG, OVERRIDES, RUN)  # what a run writes before anything is trained


def run_dir(folder: str | None, resume: str | None, stem: str, overrides: Sequence[str]) -> str:
    """Return the folder of this run: the requested one, that of the resumed run, or `outputs/<model>-<data>/<time>`.

    The folder is not created here: this function resolves a string of the configuration.

    Args:
        folder: the option folder=.
        resume: the option resume=.
        stem: `<model>-<data>`.
        overrides: the command line's overrides.
    """
    if folder and resume in (None, "auto"):
        return str(Path(str(folder)).expanduser())
    if resume == "auto":
        found = newest_run(OUTPUTS / stem, overrides)
        if found:
            return str(found)
    elif resume:
        path = Path(str(resume))  # what is no text is refused later, by name
        if path.is_dir():
            return str(path)
        if path.is_file() and path.parent.name == LAST.parent.name:
            return str(path.parent.parent)
    return str(new_run_dir(OUTPUTS / re.sub(r"[^\w.+-]|^\.+", "_", stem)))


def new_run_dir(parent: Path) -> Path:
    """Return a folder name that is not taken: the time, with -2, -3, ... where a run of the same second exists."""
    now = time.strftime("%Y-%m-%d_%H-%M-%S")
    names = (now if number == 1 else f"{now}-{number}" for number in itertools.count(1))
    return next(folder for name in names if not (folder := parent / name).exists())


@contextlib.contextmanager
def remove_if_not_started(folder: Path) -> Iterator[None]:
    """Remove the run's folder if the block ends by an error or a signal before the run has written more than its first
    files: its log, its configuration, empty folders."""
    try:
        yield
    except BaseException:
        if folder.is_dir() and all(path.name in FIRST_FILES or _is_empty(path) for path in folder.iterdir()):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(path.is_file() for path in folder.rglob("*"))


def newest_run(parent: Path, overrides: Sequence[str]) -> Path | None:
    """Return the newest run below `parent` with the same overrides that has a checkpoint; None if there is none.

    Overrides are compared in canonical form, without `resume=` and those of the run's length.
    """
    for folder in sorted(parent.glob("*"), key=lambda path: path.name, reverse=True):
        record = folder / OVERRIDES
        if (
            (folder / LAST).is_file()
            and record.is_file()
            and record.read_text().splitlines() == canonical_overrides(overrides)
        ):
            return folder
    return None


def canonical_overrides(overrides: Sequence[str]) -> list[str]:
    """Return overrides in a form that is equal for two commands of the same run.

    They are sorted, and `resume=`, the keys below `sweep.` and the run's length are left out: a run can be resumed to
    become longer, and the evaluation of a sweep does not change its runs.
    """
    ignored = (*LENGTH_OVERRIDES, "resume=", "sweep.")
    return sorted(redact_home(override) for override in overrides if not override.lstrip("+").startswith(ignored))


def redact_home(value: Any) -> Any:
    """Replace the path of the home directory by `~` in a text, or in all texts of plain containers.

    Stored files then do not reveal the user's name. Every path that is read from a configuration is expanded.
    """
    if isinstance(value, dict):
        return {key: redact_home(child) for key, child in value.items()}
    if isinstance(value, list):
        return [redact_home(child) for child in value]
    home = str(Path.home())
    if not isinstance(value, str) or home == Path.home().anchor:
        return value
    return re.sub(rf"(?<![\w/.]){re.escape(home)}(?![\w.-])", "~", value)


def run_dir_of(checkpoint: Path) -> Path:
    """Return the folder of the run that a checkpoint belongs to; the checkpoint's own folder outside of a run."""
    return checkpoint.parent.parent if checkpoint.parent.name == LAST.parent.name else checkpoint.parent


def make_output_dir(place: str | Path) -> Path:
    """Create and return the folder that `out=` names, without what a killed process has left half written there.

    Raises:
        UserError: it cannot be created.
    """
    out = Path(place).expanduser()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out={out}: {error.strerror}") from error
    remove_partial_files(out)
    return out


@contextlib.contextmanager
def atomic_write(file: Path) -> Iterator[Path]:
    """Write a file completely or not at all.

    The block writes to the temporary path that it receives, in the same folder; at its end the temporary file is
    renamed to `file`. Renaming within a file system is atomic. If the block fails, the temporary file is removed and
    the previous `file` stays.

    Example:
        with atomic_write(folder / "config.yaml") as temporary:
            temporary.write_text(text)

    Raises:
        OSError: writing failed; the error names the file, which the system's error of a full disk does not.
    """
    part = partial_file(file)
    try:
        yield part
        part.replace(file)
    except OSError as error:
        if error.errno:
            error.filename = str(file)
        raise
    finally:
        part.unlink(missing_ok=True)


def partial_file(file: Path) -> Path:
    """Return the temporary name of a file that this process writes: `.<name>.<machine>.<process>.part<suffix>`."""
    return file.with_name(f".{file.name}.{_machine()}.{os.getpid()}.part{file.suffix}")


def remove_partial_files(folder: Path) -> None:
    """Remove the partial files in a folder that processes of this machine have left which were killed."""
    for path in folder.glob(f".*.{_machine()}.*.part*"):
        match = re.search(r"\.(\d+)\.part(\.\w+)?$", path.name)
        if match and not _is_running(int(match.group(1))):
            path.unlink(missing_ok=True)


def _machine() -> str:
    return re.sub(r"[^\w-]", "", socket.gethostname()) or "localhost"


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True


class IgnoreFullDisk:
    """Context manager for optional files of a run: if one cannot be written, training continues without it.

    The error is logged once for each instance, not for each file.

    Example:
        ignore_full_disk = IgnoreFullDisk()
        with ignore_full_disk(path):
            image.save(path)

    Attributes:
        failed: whether an error has occurred.
    """

    def __init__(self) -> None:
        self.failed = False

    @contextlib.contextmanager
    def __call__(self, path: Path) -> Iterator[None]:
        """Ignore an OSError of the block; `path` is named in the logged message."""
        try:
            yield
        except OSError as error:
            if not self.failed:
                log.error("%s could not be written (%s); training continues without it", path, error.strerror or error)
            self.failed = True


def relative_to_cwd(folder: Path, cwd: str | Path | None = None) -> str:
    """Return a folder relative to the working directory if it is below it, so that stored paths are short and portable.

    Args:
        folder: absolute path.
        cwd: the working directory; null: that of this process.
    """
    base = Path(cwd) if cwd else Path.cwd()
    return str(folder.relative_to(base)) if folder.is_relative_to(base) else str(folder)

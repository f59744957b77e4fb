"""Where a run writes, and which run is meant by `resume=`."""

import contextlib
import itertools
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from oakleaf.errors import UserError

log = logging.getLogger(__name__)

OUTPUTS = Path("outputs")
LAST = Path("checkpoints") / "last.ckpt"
BEST = Path("checkpoints") / "best.ckpt"
LENGTH = ("max_images=", "trainer.max_epochs=", "trainer.max_time=")
CONFIG = "config.yaml"  # in a run's folder: the composed recipe
OVERRIDES = "overrides.txt"  # in a run's folder: the command line that began it


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
def remove_if_not_started(folder: Path, log_file: str) -> Iterator[None]:
    """Remove the run's folder if the block fails before the run has written anything but its first files.

    Args:
        folder: the run's folder.
        log_file: name of the log file, one of the first files.
    """
    try:
        yield
    except (UserError, OSError):
        first_files = {log_file, CONFIG, OVERRIDES}
        if folder.is_dir() and {path.name for path in folder.iterdir()} <= first_files:
            for name in first_files:
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
        raise


def newest_run(parent: Path, overrides: Sequence[str]) -> Path | None:
    """The newest run below `parent` that was begun by the same overrides, resume= aside, and has saved something."""
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
    """Overrides in a form in which two commands for the same run are equal: its length may differ."""
    aside = (*LENGTH, "resume=", "sweep.")
    return sorted(redact_home(override) for override in overrides if not override.lstrip("+").startswith(aside))


def redact_home(value: Any) -> Any:
    """Plain containers and texts with `~` in place of the home's path, which is nobody else's business. Whatever reads
    a path from a recipe expands it."""
    if isinstance(value, dict):
        return {key: redact_home(below) for key, below in value.items()}
    if isinstance(value, list):
        return [redact_home(below) for below in value]
    home = str(Path.home())
    if not isinstance(value, str) or home == Path.home().anchor:
        return value
    return re.sub(rf"(?<![\w/.]){re.escape(home)}(?![\w.-])", "~", value)


def run_dir_of(checkpoint: Path) -> Path:
    """The folder for what is known of a checkpoint: the run's, if it is in one."""
    return checkpoint.parent.parent if checkpoint.parent.name == LAST.parent.name else checkpoint.parent


def make_output_dir(place: str | Path) -> Path:
    """The folder that `out=` names, made if it is not there.

    Raises:
        UserError: it can't be.
    """
    out = Path(place).expanduser()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out={out}: {error.strerror}") from error
    return out


@contextlib.contextmanager
def atomic_write(file: Path) -> Iterator[Path]:
    """Where to write a file so that it is there whole or not at all: beside its place, renamed at the end.

    Raises:
        OSError: with the file's name, which a full disk does not tell; what was there before stays.
    """
    part = file.with_name(f".{file.name}.{os.getpid()}.part{file.suffix}")
    try:
        yield part
        part.replace(file)
    except OSError as error:
        if error.errno:
            error.filename = str(file)
        raise
    finally:
        part.unlink(missing_ok=True)


class IgnoreFullDisk:
    """`with spared(path): ...`: what a run can do without. A full disk leaves it out, which is said once, and the run
    goes on behind the block."""

    def __init__(self) -> None:
        self.said = False

    @contextlib.contextmanager
    def __call__(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self.said:
                log.error("%s could not be written (%s), and the run goes on", path, error.strerror or error)
            self.said = True


def relative_to_cwd(folder: Path) -> str:
    """Relative to where the command runs, if it is below: no home's path enters a recipe."""
    here = Path.cwd()
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)

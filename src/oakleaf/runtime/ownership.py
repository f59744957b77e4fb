"""One process owns the folder of a run, from its first file until that process ends."""

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from oakleaf.errors import UserError
from oakleaf.runtime.locks import file_lock
from oakleaf.runtime.run_dir import OWNER, new_run_dir, relative_to_cwd

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")  # of one run's processes


@contextlib.contextmanager
def owned_folder(folder: Path, may_move: bool = False) -> Iterator[Path]:
    """Own the folder of a run while the block runs, so that no other process writes into it.

    The owner is whoever holds the lock of the file `.owner`, which the operating system releases when the process ends,
    however it ends. What an earlier owner that was killed has left half written is removed. Of the processes of one
    run, the first one owns the folder.

    Args:
        folder: the run's folder; it is created.
        may_move: whether the name of the folder was chosen by the program, so that another one can be chosen if a
            process that has started in the same second owns it.

    Yields:
        The folder.

    Raises:
        UserError: another process owns it, or it cannot be written.
    """
    if not is_first_process():
        yield folder
        return
    with contextlib.ExitStack() as stack:
        while stack.enter_context(_lock(folder)) is None:
            if not may_move:
                raise UserError(f"{relative_to_cwd(folder)} belongs to a run that is going on{_owner(folder)}")
            folder = new_run_dir(folder.parent)
        try:
            for partial in folder.rglob(".*.part*"):
                partial.unlink(missing_ok=True)
            yield folder
        finally:
            (folder / OWNER).unlink(missing_ok=True)


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[int | None]:
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context(file_lock(folder / OWNER, f"process {os.getpid()} on {socket.gethostname()}\n"))
        except OSError as error:
            raise UserError(f"folder={relative_to_cwd(folder)}: {error.strerror}") from error
        yield lock


def _owner(folder: Path) -> str:
    """What the owner says about itself: ` (process 123 on host)`."""
    try:
        text = (folder / OWNER).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return f" ({text})" if re.fullmatch(r"process \d+ on \S+", text) else ""


def is_first_process() -> bool:
    """Return whether this is the first process of a run, by the variables that torchrun, Lightning and SLURM set."""
    return all(os.environ.get(name, "0") in ("", "0") for name in RANKS)

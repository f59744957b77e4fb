"""File locks that end with the processes that hold them."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HELD = (errno.EAGAIN, errno.EACCES)  # by another process; any other error is of a file system without locks

_descriptors: set[int] = set()  # of the locks that this process holds


@contextmanager
def file_lock(file: Path, text: str = "") -> Iterator[int | None]:
    """Hold an exclusive lock on a file, without waiting for it.

    The operating system holds the lock (`flock`), not the existence of the file: it is released when the last process
    ends that has the file descriptor open, however that process ends. So a killed run leaves no lock that somebody has
    to remove. A child process that inherits the descriptor (`subprocess.Popen(pass_fds=...)`) keeps the lock if its
    parent is killed; one that is forked closes it. Where the file system has no locks, nothing is excluded.

    Args:
        file: the file to lock; it is created.
        text: what the file says while the lock is held.

    Yields:
        The file descriptor; None if another process holds the lock.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _locked(file)
    if descriptor is None:
        yield None
        return
    _descriptors.add(descriptor)
    try:
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
        yield descriptor
    finally:
        _descriptors.discard(descriptor)
        os.close(descriptor)


def _close_in_child() -> None:
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()


os.register_at_fork(after_in_child=_close_in_child)


def _locked(file: Path) -> int | None:
    """Open and lock a file; None if another process holds the lock."""
    import fcntl

    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in HELD:
                os.close(descriptor)
                return None
        if _is_file(descriptor, file):
            return descriptor
        os.close(descriptor)  # its holder has removed the file since it was opened


def _is_file(descriptor: int, file: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def is_locked(file: Path) -> bool:
    """Tell whether a process holds the lock: of this machine, or of another if the file system supports that."""
    import fcntl

    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in HELD
    finally:
        os.close(descriptor)
    return False

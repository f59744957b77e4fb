"""File locks that end with the processes that hold them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def file_lock(file: Path) -> Iterator[int | None]:
    """Hold an exclusive lock on a file, without waiting for it.

    The operating system holds the lock (`flock`), not the existence of the file: it is released when the last process
    ends that has the file descriptor open, however that process ends. So a killed run leaves no lock that somebody has
    to remove. A child process that inherits the descriptor (`subprocess.Popen(pass_fds=...)`) keeps the lock if its
    parent is killed.

    Args:
        file: the file to lock; it is created.

    Yields:
        The file descriptor; None if another process holds the lock.
    """
    import fcntl

    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
            return
        yield handle.fileno()


def is_locked(file: Path) -> bool:
    """Tell whether a process holds the lock: of this machine, or of another if the file system supports that."""
    if not file.is_file():
        return False
    with file_lock(file) as descriptor:
        return descriptor is None

"""Run commands in forked processes, as a user does in a terminal, and check what they end with."""

import atexit
import contextlib
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.global_hydra import GlobalHydra

TRAIN = [
    "logger=csv", "trainer=cpu", "trainer.enable_progress_bar=false", "model.game.generator.width=8",
    "model.game.discriminator.width=8", "callbacks.training_monitor=null", "callbacks.report=null",
    "callbacks.samples=null", "data.batch_size=8", "max_images=8",
]  # fmt: skip
DIGITS = ["data=digits", *TRAIN]
FOLDER = ["data=folder", "data.size=16", "data.source.upscale=true", *TRAIN]


RUNNING: list["Command"] = []


class Check(NamedTuple):
    """What was tried, and what was wrong; nothing, if all was right."""

    case: str
    fault: str


class Ended(NamedTuple):
    """How a command has ended.

    Attributes:
        code: the exit code, or minus the number of the signal.
        out, err: what it has printed.
        left: processes that it has left, a few seconds after its end.
        memory: the largest memory of the process, in MB.
    """

    code: int
    out: str
    err: str
    left: list[int]
    memory: float

    def lines(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.strip()]


class Command:
    """A command that runs in a process, and a session, of its own.

    Args:
        place: the working directory.
        arguments: the command and its arguments.
        trap: is called in the process before the command: limits, patches.
        environment: variables in addition to those of this process.
        call: is called instead of a command.
    """

    def __init__(
        self,
        place: Path,
        *arguments: str,
        trap: Callable[[], Any] | None = None,
        call: Callable[[], Any] | None = None,
        **environment: str,
    ) -> None:
        self.files = [place / f".{name}-{time.monotonic_ns()}" for name in ("out", "err")]
        for file in self.files:
            file.touch()
        sys.stdout.flush()
        self.pid = os.fork()
        RUNNING.append(self)
        if self.pid == 0:
            code = 99
            try:
                code = self._run(place, arguments, trap, call, environment)
            finally:  # whatever happens, the rest of the script is the parent's
                os._exit(code)

    def _run(
        self,
        place: Path,
        arguments: Sequence[str],
        trap: Callable[[], Any] | None,
        call: Callable[[], Any] | None,
        environment: dict[str, str],
    ) -> int:
        code = 99
        try:
            os.setsid()
            for number, file in enumerate(self.files, 1):
                os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), number)
            os.chdir(place)
            os.environ.update(environment)
            sys.argv = [f"{arguments[0]}.py" if arguments else "python", *arguments[1:]]
            GlobalHydra.instance().clear()
            if trap:
                trap()
            code = _exit_code(call or _command(arguments[0]))
            atexit._run_exitfuncs()
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
        except BaseException as error:
            os.write(2, f"Traceback of the end: {error!r}\n".encode())
        return code

    def until(self, happened: Callable[[], Any], seconds: float = 60.0) -> "Command":
        """Wait until something has happened.

        Raises:
            TimeoutError: it has not.
        """
        end = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > end or _has_ended(self.pid):
                text = self.files[1].read_text()[-300:]
                raise TimeoutError(f"what was waited for has not happened: {text}")
            time.sleep(0.02)
        return self

    def send(self, number: int, group: bool = False) -> "Command":
        """Send a signal to the process, or to all of its group, as a terminal does."""
        (os.killpg if group else os.kill)(self.pid, number)
        return self

    def ended(self, seconds: float = 60.0) -> Ended:
        """Wait for its end; a process that takes too long is killed, and so is what it has left."""
        end, status, usage = time.monotonic() + seconds, 0, None
        while True:
            done, status, usage = os.wait4(self.pid, os.WNOHANG)
            if done:
                break
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                end = float("inf")
            time.sleep(0.01)
        RUNNING.remove(self)
        left = _left(self.pid)
        out, err = (file.read_text(errors="replace") for file in self.files)
        for file in self.files:
            file.unlink()
        code = os.waitstatus_to_exitcode(status)
        return Ended(code, out, err, left, usage.ru_maxrss / 1024)


def run(place: Path, *arguments: str, **options: Any) -> Ended:
    """Run a command to its end."""
    return Command(place, *arguments, **options).ended()


def faults(ended: Ended, code: int, *words: str, never: Sequence[str] = (), several: bool = False) -> str:
    """Return what is wrong with the end of a command.

    Args:
        ended: the end.
        code: the exit code that is right. Unless it is 0, exactly one line has to be on stderr.
        words: texts that have to be in the output.
        never: texts that must not.
        several: whether the sentence is in the log, or followed by a list.
    """
    found, text = [], ended.out + ended.err
    if ended.code != code:
        found.append(f"code {ended.code}, not {code}")
    if "Traceback" in text:
        found.append("a traceback")
    if code and not several and len(ended.lines()) != 1:
        found.append(f"{len(ended.lines())} lines")
    found += [f"no {word!r}" for word in words if word not in text]
    found += [f"{word!r}" for word in never if word in text]
    if ended.left:
        found.append(f"{len(ended.left)} processes are left")
    return f"{', '.join(found)}: {' | '.join(text.split(chr(10))[-6:])[-500:]}" if found else ""


def none_left(*paths: Path) -> str:
    """Return the names of those of some files that exist, and of partial files below them."""
    found = [path for path in paths if path.exists()]
    return f"left behind: {', '.join(path.name for path in found)}" if found else ""


def no_partial_files(folder: Path) -> str:
    found = [*folder.rglob(".*.part*"), *folder.rglob("making-*")]
    return f"left half written: {', '.join(path.name for path in found)}" if found else ""


def joined(*texts: str) -> str:
    return "; ".join(filter(None, texts))


def end_all() -> None:
    """End what still runs, after an error of the script itself."""
    for command in [*RUNNING]:
        command.send(signal.SIGKILL).ended()


def memory_limit(megabytes: int) -> None:
    """Allow so much address space in addition to what the process has."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + (megabytes << 20), resource.RLIM_INFINITY))


def file_limit(kilobytes: int) -> None:
    """Let every write beyond so many bytes of a file fail, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes << 10, resource.RLIM_INFINITY))


def signal_at(target: Any, name: str, number: int, call: int = 1) -> None:
    """Send a signal to this process when a function is called for the so-many-th time."""
    original, calls = getattr(target, name), [0]

    def interrupted(*arguments: Any, **keywords: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            os.kill(os.getpid(), number)
        return original(*arguments, **keywords)

    setattr(target, name, interrupted)


def _has_ended(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "Z"


def _command(name: str) -> Callable[[], Any]:
    from oakleaf.cli import commands

    return lambda: commands.run(name)


def _exit_code(call: Callable[[], Any]) -> int:
    import traceback

    try:
        call()
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _left(session: int, seconds: float = 3.0) -> list[int]:
    """The processes of a session that do not end within a time; they are killed."""
    end = time.monotonic() + seconds
    while found := _members(session):
        if time.monotonic() > end:
            for pid in found:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            break
        time.sleep(0.05)
    return found


def _members(session: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            fields = (folder / "stat").read_text().rpartition(") ")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(folder.name))
    return found

"""Signals that end a command at any time: Ctrl-C (SIGINT), SIGTERM, the end of the terminal (SIGHUP), and those which
schedulers send before the end (SIGUSR1, SIGUSR2, SIGXCPU). SIGHUP is ignored where it was before, as under `nohup`.

In a command, a signal raises `Interrupted` wherever the program is: while it composes, decodes, evaluates or writes.
Blocks that write files or hold processes clean up as they do after an error, and the command ends with one sentence
and the exit code 128 + n: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP, 138 for SIGUSR1. During training alone a
signal is not raised but remembered, since the current iteration is completed and saved first
(`oakleaf.callbacks.Interruption`). A phase of the training that may be left out, such as an evaluation, is marked by
`interruptible`.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
SIGNALS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
FROM_TERMINAL = [number for number in SIGNALS if number.name in ("SIGINT", "SIGHUP")]

Handler = Callable[[int, Any], None]

_interruptible = False


class Interrupted(BaseException):
    """Raised in the main thread by a signal that ends the command.

    It is not an Exception, so that what handles errors passes it on, and not a KeyboardInterrupt, after which Lightning
    ends the process with exit code 1.

    Args:
        number: the signal's number.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"stopped by {signal.Signals(number).name}")

    @property
    def exit_code(self) -> int:
        """The exit code of a command that ends by the signal."""
        return 128 + self.number


@contextlib.contextmanager
def handled_by(handler: Handler) -> Iterator[None]:
    """Handle the signals of `SIGNALS` in a block, and restore the previous handlers at its end."""
    previous = replace_handlers(handler)
    try:
        yield
    finally:
        restore_handlers(previous)


def replace_handlers(handler: Handler) -> dict[int, Any]:
    """Set the handler of all `SIGNALS`, and return the previous ones; nothing outside of the main thread.

    Other signals than SIGINT, which a shell lets programs in the background ignore, stay ignored where they are.
    """
    if threading.current_thread() is not threading.main_thread():  # Python allows it in no other thread
        return {}
    handled = [one for one in SIGNALS if one == signal.SIGINT or signal.getsignal(one) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in handled}


def restore_handlers(previous: dict[int, Any]) -> None:
    """Set the handlers that `replace_handlers` returned."""
    for number, handler in previous.items():
        signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def raise_interrupted(number: int, _: Any) -> None:
    """Handle a signal by raising `Interrupted`."""
    raise Interrupted(number)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Mark a phase of the training that a signal ends at once, by `Interrupted`, because the run does not need it."""
    global _interruptible
    before, _interruptible = _interruptible, True
    try:
        yield
    finally:
        _interruptible = before


def is_interruptible() -> bool:
    """Return whether the program is in a phase that `interruptible` marks."""
    return _interruptible


def leave_signals_to_parent() -> None:
    """In a child process: ignore the signals that a terminal sends to all processes, and end at once by the others.

    The parent decides what a signal means, and ends its children.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN if number in FROM_TERMINAL else signal.SIG_DFL)

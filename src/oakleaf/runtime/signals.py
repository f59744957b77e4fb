"""Signals that end a command at any time: Ctrl-C (SIGINT), SIGTERM, and SIGUSR1, which schedulers send before the end.

In a command, a signal raises `Interrupted` wherever the program is: while it composes, decodes, evaluates or writes.
Blocks that write files or hold processes clean up as they do after an error, and the command ends with one sentence
and the exit code 128 + n: 130 for SIGINT, 138 for SIGUSR1, 143 for SIGTERM. During training alone a signal is not
raised but remembered, since the current iteration is completed and saved first (`oakleaf.callbacks.Interruption`). A
phase of the training that may be left out, such as an evaluation, is marked by `interruptible`.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]

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
    """Set the handler of all `SIGNALS`, and return the previous ones; nothing outside of the main thread."""
    if threading.current_thread() is not threading.main_thread():  # Python allows it in no other thread
        return {}
    return {number: signal.signal(number, handler) for number in SIGNALS}


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
    """In a child process: ignore Ctrl-C, which a terminal sends to all processes, and end at once by SIGTERM.

    The parent decides what a signal means, and ends its children.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in SIGNALS:
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)

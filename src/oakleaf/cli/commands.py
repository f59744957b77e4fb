"""The entry points of the commands: each ends by a signal with one sentence and the exit code of that signal.

Nothing slow is imported here, so that a signal is handled from the first moment on.
"""

import sys
from importlib import import_module

from oakleaf.runtime.ownership import is_first_process
from oakleaf.runtime.signals import Interrupted, handled_by, raise_interrupted


def train() -> None:
    """`python train.py`."""
    run("train")


def sample() -> None:
    """`python sample.py`."""
    run("sample")


def translate() -> None:
    """`python translate.py`."""
    run("translate")


def evaluate() -> None:
    """`python evaluate.py`."""
    run("evaluate")


def export() -> None:
    """`python export.py`."""
    run("export")


def theory() -> None:
    """`python theory.py`."""
    run("theory")


def explore() -> None:
    """`python explore.py`."""
    run("explore")


def composite() -> None:
    """`python composite.py`."""
    run("composite")


def directions() -> None:
    """`python directions.py`."""
    run("directions")


def run(name: str) -> None:
    """Run the `main` of `oakleaf.cli.<name>`. The signals of `oakleaf.runtime.signals` end it wherever it is.

    The exit code is then 128 + n: 130 for SIGINT, 143 for SIGTERM.
    """
    with handled_by(raise_interrupted):
        try:
            import_module(f"oakleaf.cli.{name}").main()
        except Interrupted as interruption:
            if is_first_process():
                print(interruption, file=sys.stderr)
            sys.exit(interruption.exit_code)

"""Shared by all torture scripts: limits of time and memory, and counts of outcomes."""

import logging
import os
import resource
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Outcome(NamedTuple):
    kind: str
    words: str


class Slow(BaseException):
    """Took too long."""


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Raises:
    Slow: the block took longer.
    """

    def ring(*_: object) -> None:
        raise Slow

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def limited(gigabytes: int = 16) -> None:
    """So much memory for this process: what would be killed fails, and is seen."""
    resource.setrlimit(resource.RLIMIT_AS, (gigabytes << 30, gigabytes << 30))
    os.environ.update(WANDB_MODE="offline", OMP_NUM_THREADS="1")
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")


def report(found: Iterable[tuple[str, Outcome]], good: set[str]) -> int:
    """Print everything that should not be, and the counts; 1 if there was any."""
    began, counts = time.monotonic(), Counter[str]()
    for what, outcome in found:
        counts[outcome.kind] += 1
        if outcome.kind not in good:
            print(f"{outcome.kind}: {what!r}\n    {outcome.words}", file=sys.__stdout__, flush=True)
        if counts.total() % 100 == 0:
            print(f"{counts.total()} ...", file=sys.__stderr__, flush=True)
    summary = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    print(f"{counts.total()} tried: {summary}; {time.monotonic() - began:.0f} s", file=sys.__stdout__, flush=True)
    return int(bool(counts.keys() - good))

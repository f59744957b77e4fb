"""Decoding a source's pictures into one file, on all processor cores."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from oakleaf.data.fit import Fit, TooSmall
from oakleaf.data.sources import Source
from oakleaf.errors import Mistake

UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, UnidentifiedImageError, Image.DecompressionBombError)
TOGETHER = 64  # pictures that a process gets at a time
FEW = 1000  # pictures for which no process is worth its start

Fault = tuple[str, str]  # what is wrong with a picture, and what helps
NONE: Fault = ("", "")


def faults(source: Source, fit: Fit, path: Path, start: int) -> Iterator[Fault]:
    """For each picture, in order, what is wrong with it. The image of one with which nothing is stands in the file by
    then: number i at start + i times an image's bytes.

    Raises:
        Mistake: a process was killed, as happens where memory ends.
        OSError: the file can't be written.
    """
    decode = partial(_Decoding, source, fit, path, start)
    bar = tqdm(total=len(source), desc="decoding", unit="img", leave=False, disable=None)  # None: only in a terminal
    with bar, _workers(len(source), decode) as each:
        for result in each(range(len(source))):
            bar.update()
            yield result


class _Decoding:
    """A process's own way into the file: to hand images from one process to another would cost half of the decoding."""

    def __init__(self, source: Source, fit: Fit, path: Path, start: int) -> None:
        self.source, self.fit, self.start = source, fit, start
        self.size = fit.channels * fit.height * fit.width
        self.file = path.open("r+b")

    def __call__(self, index: int) -> Fault:
        try:
            with self.source.read(index) as picture:
                image = self.fit(picture)
        except TooSmall as error:
            return f"{error}", error.advice
        except UNREADABLE as error:
            return f"can't be read ({error})", "Mend or remove it"
        self.file.seek(self.start + index * self.size)
        self.file.write(image.data)
        self.file.flush()
        return NONE


@contextmanager
def _workers(count: int, begin: Callable[[], _Decoding]) -> Iterator[Callable[[range], Iterable[Fault]]]:
    """A way to decode some numbers, in order: by a process for each core, since threads wait for each other half of
    the time; by this process alone where the pictures are few, or where it can't be forked."""
    cores = os.cpu_count() or 1
    if count < FEW or cores == 1 or "fork" not in multiprocessing.get_all_start_methods():
        decode = begin()
        with decode.file:
            yield partial(map, decode)
        return
    fork = multiprocessing.get_context("fork")  # what it decodes from need not be sent, and touches no accelerator
    with ProcessPoolExecutor(cores, fork, initializer=_begin, initargs=(begin,)) as pool:
        try:
            yield partial(pool.map, _go_on, chunksize=TOGETHER)
        except BrokenProcessPool as error:
            raise Mistake(f"decoding: a process was killed; is there memory for {cores} of them?") from error


_mine: _Decoding | None = None  # of a decoding process


def _begin(begin: Callable[[], _Decoding]) -> None:
    global _mine
    _mine = begin()


def _go_on(index: int) -> Fault:
    assert _mine is not None
    return _mine(index)

"""Decoding a source's pictures into one file, on all processor cores."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from oakleaf.data.resize import CropResize, PictureTooSmall
from oakleaf.data.sources import Source
from oakleaf.errors import UserError

UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, UnidentifiedImageError, Image.DecompressionBombError)
TOGETHER = 1 << 22  # bytes of images that a process decodes at a time, one image at least
FEW = 1000  # pictures for which no process is worth its start

Fault = tuple[str, str]  # what is wrong with a picture, and what helps
NONE: Fault = ("", "")


def faults(source: Source, fit: CropResize, path: Path, start: int) -> Iterator[Fault]:
    """For each picture, in order, what is wrong with it. The image of one with which nothing is stands in the file by
    then: number i at start + i times an image's bytes.

    Raises:
        UserError: a process was killed, as happens where memory ends.
        OSError: the file can't be written.
    """
    decode = partial(_Decoding, source, fit, path, start)
    count, cores = len(source), os.cpu_count() or 1
    bar = tqdm(total=count, desc="decoding", unit="img", leave=False, disable=None)  # None: only in a terminal
    fair = count // (4 * cores)  # some work for each process, also where pictures are few
    some = max(1, min(TOGETHER // (fit.channels * fit.height * fit.width), fair))
    with bar, _workers(cores if count >= FEW else 1, decode) as each:
        for found in each([range(i, min(i + some, count)) for i in range(0, count, some)]):
            bar.update(len(found))
            yield from found


class _Decoding:
    """A process's own way into the file: to hand images from one process to another would cost half of the decoding.
    Many at once: small pieces of a file lie scattered in memory, and are read more slowly from then on."""

    def __init__(self, source: Source, fit: CropResize, path: Path, start: int) -> None:
        self.source, self.fit, self.start = source, fit, start
        self.file = path.open("r+b")

    def __call__(self, numbers: range) -> list[Fault]:
        images = np.zeros((len(numbers), self.fit.channels, self.fit.height, self.fit.width), np.uint8)
        found = [self._decode(index, image) for index, image in zip(numbers, images)]
        self.file.seek(self.start + numbers.start * images[0].nbytes)
        self.file.write(images.data)
        self.file.flush()
        return found

    def _decode(self, index: int, image: np.ndarray) -> Fault:
        try:
            with self.source.read(index) as picture:
                image[:] = self.fit(picture)
        except PictureTooSmall as error:
            return f"{error}", error.advice
        except UNREADABLE as error:
            return f"can't be read ({error})", "Mend or remove it"
        return NONE


@contextmanager
def _workers(cores: int, begin: Callable[[], _Decoding]) -> Iterator[Callable[[list[range]], Iterable[list[Fault]]]]:
    """A way to decode ranges of numbers, in order: by a process for each core, since threads wait for each other half
    of the time; by this process alone where it is one, or where it can't be forked."""
    if cores == 1 or "fork" not in multiprocessing.get_all_start_methods():
        decode = begin()
        with decode.file:
            yield partial(map, decode)
        return
    fork = multiprocessing.get_context("fork")  # what it decodes from need not be sent, and touches no accelerator
    with ProcessPoolExecutor(cores, fork, initializer=_begin, initargs=(begin,)) as pool:
        try:
            yield partial(pool.map, _go_on)
        except BrokenProcessPool as error:
            raise UserError(f"decoding: a process was killed; is there memory for {cores} of them?") from error


_mine: _Decoding | None = None  # of a decoding process


def _begin(begin: Callable[[], _Decoding]) -> None:
    global _mine
    _mine = begin()


def _go_on(numbers: range) -> list[Fault]:
    assert _mine is not None
    return _mine(numbers)

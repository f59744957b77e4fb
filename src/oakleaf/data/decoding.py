"""Decoding all pictures of a source into one file, on all processor cores."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from oakleaf.data.pictures import Picture, has_only_grey_pixels, is_deep, is_grey, reading
from oakleaf.data.resize import CropResize, PictureTooSmall
from oakleaf.data.sources import Source
from oakleaf.data.values import Observed, OtherValues, ValueRange, array_of, is_channels_last
from oakleaf.errors import UserError
from oakleaf.runtime.signals import leave_signals_to_parent
from oakleaf.runtime.threads import available_cores

UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, UnidentifiedImageError, Image.DecompressionBombError)
CHUNK_BYTES = 1 << 22  # bytes of decoded images that a process writes at a time; at least one image
OBSERVED_TOGETHER = 64  # pictures whose values a process reads at a time
MIN_FOR_PROCESSES = 1000  # fewer pictures are decoded faster by this process than by processes that must be started


class Problem(NamedTuple):
    """Why a picture could not be decoded, and what the user can do about it."""

    message: str
    advice: str


class Outcome(NamedTuple):
    """What was found when a picture was decoded.

    Attributes:
        problem: why it could not be decoded; None if it was.
        loses_colours: it has colours, and its image is grey.
        ends: its smallest and largest value, in the unit of the set's range; None if these are not known, as of a
            palette.
    """

    problem: Problem | None = None
    loses_colours: bool = False
    ends: tuple[float, float] | None = None


def decode_into_file(source: Source, resize: CropResize, path: Path, offset: int) -> Iterator[Outcome]:
    """Decode all pictures of a source into an existing file.

    Args:
        source: the pictures.
        resize: how a picture becomes an image.
        path: a file with room for all images.
        offset: the position in the file of the first image, in bytes. Image number i begins at `offset + i * nbytes`.

    Yields:
        For each picture, in order, what was found once its image is in the file, or the problem with it.

    Raises:
        UserError: a decoding process was killed, which usually means that memory ran out.
        OSError: the file cannot be written.
    """
    new_decoder = partial(_Decoder, source, resize, path, offset)
    image_bytes = resize.channels * resize.height * resize.width * np.dtype(resize.dtype).itemsize
    yield from _in_parallel(len(source), CHUNK_BYTES // image_bytes, new_decoder, "decoding")


def observe_all(source: Source) -> Observed:
    """Read all pictures of a source for their values; those that cannot be read are left out."""
    total = Observed()
    for observed in _in_parallel(len(source), OBSERVED_TOGETHER, partial(_Observer, source), "reading values"):
        total.join(observed)
    return total


def _in_parallel(count: int, chunk: int, new_worker: Callable[[], "_Worker"], description: str) -> Iterator[Any]:
    """The results of a worker for all pictures, in order, by all processor cores, with a progress bar."""
    cores = available_cores()
    bar = tqdm(total=count, desc=description, unit="img", leave=False, disable=None)  # None: only in a terminal
    per_process = count // (4 * cores)  # chunks small enough that each process has work, also with few pictures
    chunk = max(1, min(chunk, per_process))
    with bar, _parallel_map(cores if count >= MIN_FOR_PROCESSES else 1, new_worker) as work:
        for results in work([range(i, min(i + chunk, count)) for i in range(0, count, chunk)]):
            bar.update(len(results))
            yield from results


class _Worker(Protocol):
    """What a process does with the pictures of some numbers."""

    def __call__(self, indices: range) -> list[Any]: ...

    def close(self) -> None: ...


class _Decoder:
    """Decodes pictures and writes their images into the file, which each process opens for itself.

    Sending the images to another process would cost half of the decoding time. A chunk is written with one call,
    because a file written in small pieces is scattered in memory and read more slowly afterwards.
    """

    def __init__(self, source: Source, resize: CropResize, path: Path, offset: int) -> None:
        self.source, self.resize, self.offset = source, resize, offset
        self.file = path.open("r+b")

    def __call__(self, indices: range) -> list[Outcome]:
        shape = (len(indices), self.resize.channels, self.resize.height, self.resize.width)
        images = np.zeros(shape, self.resize.dtype)
        outcomes = [self._decode(index, image) for index, image in zip(indices, images)]
        self.file.seek(self.offset + indices.start * images[0].nbytes)
        self.file.write(images.data)
        self.file.flush()
        return outcomes

    def close(self) -> None:
        self.file.close()

    def _decode(self, index: int, image: np.ndarray) -> Outcome:
        """Decode one picture into `image`."""
        try:
            with reading(self.source.read(index)) as picture:
                ends = _ends(picture, self.resize.range) if is_deep(picture) else None  # it refuses NaN
                image[:] = self.resize(picture)  # decodes a large JPEG to a part, which is enough for its ends
                return Outcome(None, self._loses_colours(picture), ends or _ends(picture, self.resize.range))
        except PictureTooSmall as error:
            return Outcome(Problem(f"{error}", error.advice))
        except OtherValues as error:
            return Outcome(Problem(f"{error}", "Convert or remove it"))
        except UserError as error:
            return Outcome(Problem(f"{error}", "Remove it"))
        except UNREADABLE as error:
            return Outcome(Problem(f"can't be read ({error})", "Repair or remove it"))

    def _loses_colours(self, picture: Picture) -> bool:
        """Whether a picture has colours and its image has not. It is decoded already, a large JPEG to a part."""
        if self.resize.channels != 1 or not isinstance(picture, Image.Image) or is_grey(picture):
            return False
        return not has_only_grey_pixels(picture)


def _ends(picture: Picture, range: ValueRange) -> tuple[float, float] | None:
    """The smallest and the largest value of a picture, in the unit of the set's range.

    Raises:
        UserError: a value is NaN or infinite.
    """
    if is_deep(picture):
        values = array_of(picture, is_channels_last(picture))
        found, dtype = (float(values.min()), float(values.max())), str(values.dtype)
    elif isinstance(picture, Image.Image) and picture.mode in ("L", "RGB"):
        ends = np.array(picture.getextrema())
        found, dtype = (float(ends.min()), float(ends.max())), "uint8"
    else:
        return None
    if not np.isfinite(found).all():
        raise UserError("has a value that is NaN or infinite")
    low, high = range.ends(dtype)
    scale = (range.high - range.low) / (high - low)
    return range.low + (found[0] - low) * scale, range.low + (found[1] - low) * scale


class _Observer:
    """Observes the values of pictures."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __call__(self, indices: range) -> list[Observed]:
        return [self._observe(index) for index in indices]

    def close(self) -> None:
        """Nothing is open."""

    def _observe(self, index: int) -> Observed:
        observed = Observed()
        try:
            with reading(self.source.read(index)) as picture:
                observed.add(array_of(picture, is_channels_last(picture)))
        except (*UNREADABLE, UserError):
            return Observed()  # the decoder reports it by name
        return observed


@contextmanager
def _parallel_map(
    cores: int, new_worker: Callable[[], _Worker]
) -> Iterator[Callable[[list[range]], Iterable[list[Any]]]]:
    """A map over ranges of picture numbers, with ordered results, by one process for each core.

    Processes rather than threads, because threads of Python spend half of their time waiting for each other here. With
    one core, or on a system that cannot fork, this process does the work.
    """
    if cores == 1 or "fork" not in multiprocessing.get_all_start_methods():
        worker = new_worker()
        try:
            yield partial(map, worker)
        finally:
            worker.close()
        return
    fork = multiprocessing.get_context("fork")  # children inherit the source unpickled, and use no accelerator
    pool = ProcessPoolExecutor(cores, fork, initializer=_start_process, initargs=(new_worker, os.getpid()))
    try:
        yield partial(pool.map, _work_in_process)
    except BrokenProcessPool as error:
        raise UserError(
            f"decoding: a process was killed; {cores} of them may need more memory than there is"
        ) from error
    finally:  # after an error or a signal, pictures that were not begun are left
        pool.shutdown(cancel_futures=True)


_process_worker: _Worker | None = None  # the worker of a child process


def _start_process(new_worker: Callable[[], _Worker], parent: int) -> None:
    global _process_worker
    leave_signals_to_parent()
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    _process_worker = new_worker()


def _end_with_parent(parent: int) -> None:
    """End this process soon after its parent, which may have been killed; it would wait for work forever."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _work_in_process(indices: range) -> list[Any]:
    assert _process_worker is not None
    return _process_worker(indices)

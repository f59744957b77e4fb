"""Decoding all pictures of a source into one file, on all processor cores."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from oakleaf.data.resize import CropResize, PictureTooSmall
from oakleaf.data.sources import Source
from oakleaf.errors import UserError
from oakleaf.runtime.threads import available_cores

UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, UnidentifiedImageError, Image.DecompressionBombError)
CHUNK_BYTES = 1 << 22  # bytes of decoded images that a process writes at a time; at least one image
MIN_FOR_PROCESSES = 1000  # fewer pictures are decoded faster by this process than by processes that must be started


class Problem(NamedTuple):
    """Why a picture could not be decoded, and what the user can do about it."""

    message: str
    advice: str


def decode_into_file(source: Source, resize: CropResize, path: Path, offset: int) -> Iterator[Problem | None]:
    """Decode all pictures of a source into an existing file.

    Args:
        source: the pictures.
        resize: how a picture becomes an image.
        path: a file with room for all images.
        offset: the position in the file of the first image, in bytes. Image number i begins at `offset + i * nbytes`.

    Yields:
        For each picture, in order, None once its image is in the file, or the problem with it.

    Raises:
        UserError: a decoding process was killed, which usually means that memory ran out.
        OSError: the file cannot be written.
    """
    new_decoder = partial(_Decoder, source, resize, path, offset)
    count, cores = len(source), available_cores()
    bar = tqdm(total=count, desc="decoding", unit="img", leave=False, disable=None)  # None: only in a terminal
    per_process = count // (4 * cores)  # chunks small enough that each process has work, also with few pictures
    chunk = max(1, min(CHUNK_BYTES // (resize.channels * resize.height * resize.width), per_process))
    with bar, _parallel_map(cores if count >= MIN_FOR_PROCESSES else 1, new_decoder) as decode_chunks:
        for problems in decode_chunks([range(i, min(i + chunk, count)) for i in range(0, count, chunk)]):
            bar.update(len(problems))
            yield from problems


class _Decoder:
    """Decodes pictures and writes their images into the file, which each process opens for itself.

    Sending the images to another process would cost half of the decoding time. A chunk is written with one call,
    because a file written in small pieces is scattered in memory and read more slowly afterwards.
    """

    def __init__(self, source: Source, resize: CropResize, path: Path, offset: int) -> None:
        self.source, self.resize, self.offset = source, resize, offset
        self.file = path.open("r+b")

    def __call__(self, indices: range) -> list[Problem | None]:
        images = np.zeros((len(indices), self.resize.channels, self.resize.height, self.resize.width), np.uint8)
        problems = [self._decode(index, image) for index, image in zip(indices, images)]
        self.file.seek(self.offset + indices.start * images[0].nbytes)
        self.file.write(images.data)
        self.file.flush()
        return problems

    def _decode(self, index: int, image: np.ndarray) -> Problem | None:
        """Decode one picture into `image`."""
        try:
            with self.source.read(index) as picture:
                image[:] = self.resize(picture)
        except PictureTooSmall as error:
            return Problem(f"{error}", error.advice)
        except UNREADABLE as error:
            return Problem(f"can't be read ({error})", "Repair or remove it")
        return None


@contextmanager
def _parallel_map(
    cores: int, new_decoder: Callable[[], _Decoder]
) -> Iterator[Callable[[list[range]], Iterable[list[Problem | None]]]]:
    """A map over ranges of picture numbers, with ordered results, by one process for each core.

    Processes rather than threads, because threads of Python spend half of their time waiting for each other here. With
    one core, or on a system that cannot fork, this process does the work.
    """
    if cores == 1 or "fork" not in multiprocessing.get_all_start_methods():
        decoder = new_decoder()
        with decoder.file:
            yield partial(map, decoder)
        return
    fork = multiprocessing.get_context("fork")  # children inherit the source unpickled, and use no accelerator
    with ProcessPoolExecutor(cores, fork, initializer=_start_process, initargs=(new_decoder,)) as pool:
        try:
            yield partial(pool.map, _decode_in_process)
        except BrokenProcessPool as error:
            raise UserError(
                f"decoding: a process was killed; {cores} of them may need more memory than there is"
            ) from error


_process_decoder: _Decoder | None = None  # the decoder of a child process


def _start_process(new_decoder: Callable[[], _Decoder]) -> None:
    global _process_decoder
    _process_decoder = new_decoder()


def _decode_in_process(indices: range) -> list[Problem | None]:
    assert _process_decoder is not None
    return _process_decoder(indices)

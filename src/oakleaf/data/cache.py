"""Decoded images on disk: uint8 [N, C, H, W], memory-mapped, made once for each content and size."""

import hashlib
import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from oakleaf.data.fit import Fit, TooSmall
from oakleaf.data.sources import Source
from oakleaf.errors import Mistake

OnCorrupt = Literal["error", "skip"]
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, UnidentifiedImageError, Image.DecompressionBombError)
CHUNK = 4096  # images decoded ahead of what is written
TOGETHER = 64  # of them that a process gets at a time
FEW = 1000  # pictures for which no process is worth its start

MEND = "Mend or remove it"

Result = tuple[int, np.ndarray | None, str, str]  # its number, the image or None, what is wrong, what helps


class Decoded(NamedTuple):
    """images: uint8 [N, C, H, W], memory-mapped; kept: [N] their numbers in the source; skipped:
    what was left out and why."""

    images: np.ndarray
    kept: np.ndarray
    skipped: list[str]


def decoded(source: Source, fit: Fit, on_corrupt: OnCorrupt, folder: Path) -> Decoded:
    """The source's images cut to size, from the cache if it has them, else decoded now by all processor cores.

    A picture that can't be read or is too small is an error that names it, or with on_corrupt = skip is left out
    and told.

    Raises:
        Mistake: such a picture; none left; no room on the disk.
    """
    key = hashlib.blake2b(repr((1, source.digest, astuple(fit), on_corrupt)).encode(), digest_size=16).hexdigest()
    place = folder.expanduser() / key
    if not (place / "kept.npy").is_file():
        _make(source, fit, on_corrupt, place)
    skipped = json.loads((place / "skipped.json").read_text())
    return Decoded(np.load(place / "images.npy", mmap_mode="r"), np.load(place / "kept.npy"), skipped)


def _make(source: Source, fit: Fit, on_corrupt: OnCorrupt, place: Path) -> None:
    """Write the cache entry beside its place, then rename it there, so that a half-made one is never found."""
    shape = (fit.channels, fit.height, fit.width)
    needed = len(source) * int(np.prod(shape))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(place.parent).free < needed * 1.05:
            raise Mistake(f"{place.parent}: {needed / 1e9:.1f} GB needed for decoded images; choose another data.cache")
        with tempfile.TemporaryDirectory(dir=place.parent, prefix="making-") as work:
            entry = Path(work) / "entry"
            entry.mkdir()
            kept, skipped = _decode_into(entry / "raw", source, fit, on_corrupt)
            _finish(entry, (len(kept), *shape))
            np.save(entry / "kept.npy", np.array(kept, dtype=np.int64))
            (entry / "skipped.json").write_text(json.dumps(skipped))
            try:
                entry.rename(place)
            except OSError:  # another process was first, with the same content
                if not place.is_dir():
                    raise
    except OSError as error:
        raise Mistake(f"{place.parent}: {error.strerror or error}; choose another cache: data.cache=FOLDER") from error


def _finish(work: Path, shape: tuple[int, ...]) -> None:
    """Put numpy's header before the raw bytes, now that their count is known."""
    with (work / "images.npy").open("wb") as target, (work / "raw").open("rb") as raw:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(target, header)
        shutil.copyfileobj(raw, target, 1 << 24)
    (work / "raw").unlink()


def _decode_into(path: Path, source: Source, fit: Fit, on_corrupt: OnCorrupt) -> tuple[list[int], list[str]]:
    kept: list[int] = []
    skipped: list[str] = []
    with path.open("wb") as file:
        for index, image, fault, advice in _decode_all(source, fit):
            if image is not None:
                file.write(image.tobytes())
                kept.append(index)
            elif on_corrupt == "skip":
                skipped.append(f"{source.name(index)}: {fault}. {advice}")
            else:
                leave = "or leave such pictures out: data.on_corrupt=skip"
                raise Mistake(f"{source.name(index)}: {fault}. {advice}, {leave}")
    if not kept:
        raise Mistake(f"no picture is left of {len(source)}; the first: {skipped[0] if skipped else 'none there'}")
    return kept, skipped


def _decode_all(source: Source, fit: Fit) -> Iterator[Result]:
    """Each image in order, or None and what is wrong with it."""
    decode = partial(_decode, source, fit)
    bar = tqdm(total=len(source), desc="decoding", unit="img", leave=False, disable=None)  # None: only in a terminal
    with bar, _workers(len(source), decode) as each:
        for start in range(0, len(source), CHUNK):
            for result in each(range(start, min(start + CHUNK, len(source)))):
                bar.update()
                yield result


def _decode(source: Source, fit: Fit, index: int) -> Result:
    try:
        with source.read(index) as picture:
            return index, fit(picture), "", ""
    except TooSmall as error:
        return index, None, f"{error}", error.advice
    except UNREADABLE as error:
        return index, None, f"can't be read ({error})", MEND


@contextmanager
def _workers(count: int, decode: Callable[[int], Result]) -> Iterator[Callable[[range], Iterable[Result]]]:
    """A way to decode some numbers, in order: by a process for each core, since threads wait for each other half of
    the time; by this process alone where the pictures are few, or where it can't be forked.

    Raises:
        Mistake: a process was killed, as happens where memory ends.
    """
    cores = os.cpu_count() or 1
    if count < FEW or cores == 1 or "fork" not in multiprocessing.get_all_start_methods():
        yield lambda numbers: map(decode, numbers)
        return
    fork = multiprocessing.get_context("fork")  # what it decodes from need not be sent, and touches no accelerator
    with ProcessPoolExecutor(cores, fork, initializer=_begin, initargs=(decode,)) as pool:
        try:
            yield partial(pool.map, _go_on, chunksize=TOGETHER)
        except BrokenProcessPool as error:
            raise Mistake(f"decoding: a process was killed; is there memory for {cores} of them?") from error


_mine: Callable[[int], Result] | None = None  # of a decoding process


def _begin(decode: Callable[[int], Result]) -> None:
    global _mine
    _mine = decode


def _go_on(index: int) -> Result:
    assert _mine is not None
    return _mine(index)

"""Decoded images on disk: uint8 [N, C, H, W], memory-mapped, made once for each content and size."""

import hashlib
import json
import shutil
import tempfile
from dataclasses import astuple
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from oakleaf.data.decoding import faults
from oakleaf.data.resize import CropResize
from oakleaf.data.sources import Source
from oakleaf.errors import UserError

OnCorrupt = Literal["error", "skip"]


class Decoded(NamedTuple):
    """images: uint8 [N, C, H, W], memory-mapped; kept: [N] their numbers in the source; skipped:
    what was left out and why."""

    images: np.ndarray
    kept: np.ndarray
    skipped: list[str]


def decode_to_cache(source: Source, fit: CropResize, on_corrupt: OnCorrupt, folder: Path) -> Decoded:
    """The source's images cut to size, from the cache if it has them, else decoded now by all processor cores.

    A picture that can't be read or is too small is an error that names it, or with on_corrupt = skip is left out
    and told.

    Raises:
        UserError: such a picture; none left; no room on the disk.
    """
    key = hashlib.blake2b(repr((1, source.digest, astuple(fit), on_corrupt)).encode(), digest_size=16).hexdigest()
    place = folder.expanduser() / key
    if not (place / "kept.npy").is_file():
        _make(source, fit, on_corrupt, place)
    skipped = json.loads((place / "skipped.json").read_text())
    return Decoded(np.load(place / "images.npy", mmap_mode="r"), np.load(place / "kept.npy"), skipped)


def _make(source: Source, fit: CropResize, on_corrupt: OnCorrupt, place: Path) -> None:
    """Write the cache entry beside its place, then rename it there, so that a half-made one is never found."""
    shape = (len(source), fit.channels, fit.height, fit.width)
    needed = int(np.prod(shape))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(place.parent).free < needed * 1.05:
            raise UserError(
                f"{place.parent}: {needed / 1e9:.1f} GB needed for decoded images; choose another data.cache"
            )
        with tempfile.TemporaryDirectory(dir=place.parent, prefix="making-") as work:
            entry = Path(work) / "entry"
            entry.mkdir()
            kept, skipped = _decode_into(entry / "images.npy", shape, source, fit, on_corrupt)
            np.save(entry / "kept.npy", np.array(kept, dtype=np.int64))
            (entry / "skipped.json").write_text(json.dumps(skipped))
            try:
                entry.rename(place)
            except OSError:  # another process was first, with the same content
                if not place.is_dir():
                    raise
    except OSError as error:
        raise UserError(
            f"{place.parent}: {error.strerror or error}; choose another cache: data.cache=FOLDER"
        ) from error


def _decode_into(
    path: Path, shape: tuple[int, ...], source: Source, fit: CropResize, on_corrupt: OnCorrupt
) -> tuple[list[int], list[str]]:
    kept: list[int] = []
    skipped: list[str] = []
    start = _room(path, shape)
    for index, (fault, advice) in enumerate(faults(source, fit, path, start)):
        if not fault:
            kept.append(index)
        elif on_corrupt == "skip":
            skipped.append(f"{source.name(index)}: {fault}. {advice}")
        else:
            leave = "or leave such pictures out: data.on_corrupt=skip"
            raise UserError(f"{source.name(index)}: {fault}. {advice}, {leave}")
    if not kept:
        raise UserError(f"no picture is left of {len(source)}; the first: {skipped[0] if skipped else 'none there'}")
    if skipped:
        _keep(path, kept)
    return kept, skipped


def _room(path: Path, shape: tuple[int, ...]) -> int:
    """An array's file with room for all its bytes; returns where they begin. To be written as a file: a full disk kills
    a process that writes through a memory map."""
    return np.lib.format.open_memmap(path, "w+", np.uint8, shape).offset


def _keep(path: Path, kept: list[int]) -> None:
    """Leave these images alone in the file, and no gaps."""
    images = np.load(path, mmap_mode="r")
    smaller = path.with_name("smaller.npy")
    start = _room(smaller, (len(kept), *images.shape[1:]))
    with smaller.open("r+b") as file:
        file.seek(start)
        for index in kept:
            file.write(images[index].data)
    smaller.replace(path)

"""The decoded-image cache: the images of a source on disk, [N, C, H, W], memory-mapped.

Decoding and resizing is done once for each data set and size, not in each epoch or each run. An entry is a folder whose
name is a hash of everything that the images depend on: the relative path and content of all pictures (not their dates),
every field of `CropResize`, and `on_corrupt`. So an entry never becomes stale: a changed picture or another size has
another name. The folder is filled under a temporary name and renamed when it is complete, so that an interrupted
decoding is never taken for a finished one, and two processes may decode the same set at the same time.
"""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from oakleaf.data.decoding import Outcome, decode_into_file
from oakleaf.data.resize import CropResize
from oakleaf.data.sources import Source
from oakleaf.errors import UserError

OnCorrupt = Literal["error", "skip"]
NOTES = "notes.json"  # a file of an entry; only where there is something to note
VERSION = 1  # part of each key; a change of the format or of the decoder needs another number


class Notes(NamedTuple):
    """What the images of a set lack that its pictures have.

    Attributes:
        colours: how many pictures have colours, where the images are grey.
        clipped: how many have values beyond the range of the set.
        low: the smallest value of the pictures, in the unit of the set's range; None if it is not known.
        high: their largest value.
    """

    colours: int = 0
    clipped: int = 0
    low: float | None = None
    high: float | None = None


class Decoded(NamedTuple):
    """The decoded images of a source.

    Attributes:
        images: [N, C, H, W], uint8, or float32 in [-1, 1] for pictures of more than 8 bits; memory-mapped.
        kept: [N] int64, the number of each image in the source.
        skipped: a message for each picture that was left out.
        notes: what the images lack that the pictures have.
    """

    images: np.ndarray
    kept: np.ndarray
    skipped: list[str]
    notes: Notes


def decode_to_cache(source: Source, resize: CropResize, on_corrupt: OnCorrupt, folder: Path) -> Decoded:
    """Return the images of a source from the cache, after decoding them with all processor cores if they are not there.

    Args:
        source: the pictures.
        resize: how a picture becomes an image.
        on_corrupt: "error": a picture that cannot be read or is too small is an error; "skip": it is left out.
        folder: the cache, a folder; `~` is the home folder.

    Raises:
        UserError: such a picture, with its name; no picture is left; the disk is full or cannot be written.
    """
    key = hashlib.blake2b(repr((VERSION, source.digest, resize.key, on_corrupt)).encode(), digest_size=16)
    entry = folder.expanduser() / key.hexdigest()
    if not (entry / "kept.npy").is_file():
        _create_entry(source, resize, on_corrupt, entry)
    skipped = json.loads((entry / "skipped.json").read_text())
    notes = Notes(**json.loads((entry / NOTES).read_text())) if (entry / NOTES).is_file() else Notes()
    return Decoded(np.load(entry / "images.npy", mmap_mode="r"), np.load(entry / "kept.npy"), skipped, notes)


def _create_entry(source: Source, resize: CropResize, on_corrupt: OnCorrupt, entry: Path) -> None:
    """Write the entry in a temporary folder next to its place, then rename it."""
    shape = (len(source), resize.channels, resize.height, resize.width)
    needed = int(np.prod(shape)) * np.dtype(resize.dtype).itemsize
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(entry, ignore_errors=True)  # an incomplete one, from which files were removed
        if shutil.disk_usage(entry.parent).free < needed * 1.05:
            raise UserError(
                f"{entry.parent}: {needed / 1e9:.1f} GB needed for decoded images; choose another data.cache"
            )
        with tempfile.TemporaryDirectory(dir=entry.parent, prefix="making-") as temporary:
            unfinished = Path(temporary) / "entry"
            unfinished.mkdir()
            kept, skipped, notes = _decode_all(unfinished / "images.npy", shape, source, resize, on_corrupt)
            np.save(unfinished / "kept.npy", np.array(kept, dtype=np.int64))
            (unfinished / "skipped.json").write_text(json.dumps(skipped))
            if notes != Notes():
                (unfinished / NOTES).write_text(json.dumps(notes._asdict()))
            try:
                unfinished.rename(entry)
            except OSError:  # another process was first, with the same content
                if not entry.is_dir():
                    raise
    except OSError as error:
        raise UserError(
            f"{entry.parent}: {error.strerror or error}; choose another cache: data.cache=FOLDER"
        ) from error


def _decode_all(
    path: Path, shape: tuple[int, ...], source: Source, resize: CropResize, on_corrupt: OnCorrupt
) -> tuple[list[int], list[str], Notes]:
    """Write all images into a new .npy file; returns the numbers of those decoded, messages about the others, notes."""
    kept: list[int] = []
    skipped: list[str] = []
    notes = Notes()
    offset = _allocate_array(path, shape, resize.dtype)
    for index, outcome in enumerate(decode_into_file(source, resize, path, offset)):
        problem = outcome.problem
        if problem is None:
            kept.append(index)
            notes = _with_outcome(notes, outcome, resize)
        elif on_corrupt == "skip":
            skipped.append(f"{source.name(index)}: {problem.message}. {problem.advice}")
        else:
            skip = "or leave such pictures out: data.on_corrupt=skip"
            raise UserError(f"{source.name(index)}: {problem.message}. {problem.advice}, {skip}")
    if not kept:
        first = skipped[0] if skipped else "the source is empty"
        raise UserError(f"none of the {len(source)} pictures can be used; the first: {first}")
    if skipped:
        _remove_gaps(path, kept)
    return kept, skipped, notes


def _with_outcome(notes: Notes, outcome: Outcome, resize: CropResize) -> Notes:
    """The notes with those of one more picture."""
    low, high, clipped = notes.low, notes.high, False
    if outcome.ends:
        least, most = outcome.ends
        low, high = min(least, least if low is None else low), max(most, most if high is None else high)
        clipped = least < resize.range.low or most > resize.range.high
    return Notes(notes.colours + outcome.loses_colours, notes.clipped + clipped, low, high)


def _allocate_array(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> int:
    """Create a .npy file with room for the array; returns the offset of its first byte.

    The bytes are written as a file rather than through a memory map, because a full disk kills a process that writes
    through a memory map, while `write` raises an error.
    """
    return np.lib.format.open_memmap(path, "w+", dtype, shape).offset


def _remove_gaps(path: Path, kept: list[int]) -> None:
    """Rewrite the .npy file with only these images, so that the skipped ones leave no gaps."""
    images = np.load(path, mmap_mode="r")
    compact = path.with_name("compact.npy")
    offset = _allocate_array(compact, (len(kept), *images.shape[1:]), images.dtype.type)
    with compact.open("r+b") as file:
        file.seek(offset)
        for index in kept:
            file.write(images[index].data)
    compact.replace(path)

"""The hash of the contents of many files, which are read once and recognised again by size and time.

The hash is part of the key of the decoded-image cache and identifies the data of a run. Reading every file at each
start would take minutes for a large set. So the hash of each file is kept in the cache, beside the size, the time of
modification and the inode that the file had; a file of which one has changed is read again. The manifest of a folder is
shared by all runs and processes that use the cache.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from oakleaf.runtime.run_dir import atomic_write

log = logging.getLogger(__name__)

THREADS = 4  # more are no faster on a local disk, as they wait for each other
TOGETHER = 256  # files that a thread reads one after the other
RECENT = 2_000_000_000  # ns; a file that was modified so shortly before may be modified again within the same time
UNREADABLE = "unreadable"
Stamp = list[int]  # size, time of modification in ns, inode


def content_digest(root: Path, files: Sequence[Path], cache: Path | None) -> str:
    """Return a hash of the names and contents of files.

    Args:
        root: names are relative to it.
        files: in the order that is part of the hash.
        cache: the folder of the manifest; None: every file is read.
    """
    hashes = _hashes(root, files, cache)
    total = hashlib.blake2b(digest_size=16)
    for file, found in zip(files, hashes):
        content = found.encode() if found == UNREADABLE else bytes.fromhex(found)
        total.update(os.fsencode(file.relative_to(root)) + b"\0" + content)
    return total.hexdigest()


def _hashes(root: Path, files: Sequence[Path], cache: Path | None) -> list[str]:
    """The hash of each file, as hexadecimal text."""
    manifest = _manifest_file(root, cache)
    known = _read(manifest)
    names = [str(file.relative_to(root)) for file in files]
    stamps = [_stamp(file) for file in files]
    missing = [i for i, name in enumerate(names) if not stamps[i] or known.get(name, [None])[0] != stamps[i]]
    found = dict(zip(missing, _hash_files([files[i] for i in missing])))
    hashes = [found[i] if i in found else str(known[name][1]) for i, name in enumerate(names)]
    if missing and manifest:
        _write(manifest, {**known, **_trusted(names, stamps, hashes)})
    return hashes


def _trusted(names: Sequence[str], stamps: Sequence[Stamp | None], hashes: Sequence[str]) -> dict[str, list[object]]:
    """The entries of files that cannot change without another stamp."""
    latest = time.time_ns() - RECENT
    return {
        name: [stamp, value]
        for name, stamp, value in zip(names, stamps, hashes)
        if stamp and stamp[1] < latest and value != UNREADABLE
    }


def _stamp(file: Path) -> Stamp | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _hash_files(files: Sequence[Path]) -> list[str]:
    chunks = [files[i : i + TOGETHER] for i in range(0, len(files), TOGETHER)]
    bar = tqdm(total=len(files), desc="hashing", unit="file", leave=False, disable=None if len(chunks) > 1 else True)
    found: list[str] = []
    with bar, ThreadPoolExecutor(THREADS) as pool:
        for hashes in pool.map(lambda chunk: [_hash(file) for file in chunk], chunks):
            found += hashes
            bar.update(len(hashes))
    return found


def _hash(file: Path) -> str:
    try:
        return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
    except OSError:  # the decoder reports the file by its name
        return UNREADABLE


def _manifest_file(root: Path, cache: Path | None) -> Path | None:
    if cache is None:
        return None
    name = hashlib.blake2b(os.fsencode(root.resolve()), digest_size=16).hexdigest()
    return cache.expanduser() / "manifests" / f"{name}.json"


def _read(manifest: Path | None) -> dict[str, list[object]]:
    """The entries of a manifest: stamp and hash by name; none if it is missing or damaged."""
    if manifest is None or not manifest.is_file():
        return {}
    try:
        content = json.loads(manifest.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(manifest: Path, entries: dict[str, list[object]]) -> None:
    try:
        manifest.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(manifest) as part:
            part.write_text(json.dumps(entries))
    except OSError as error:  # the files are read again at the next start
        log.warning("%s could not be written (%s)", manifest, error.strerror or error)

"""Listing the pictures of a folder or a ZIP archive, with a count of what was passed over."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile, ZipFile, is_zipfile

from PIL import Image

from oakleaf.data.pictures import picture_extensions
from oakleaf.errors import UserError

ARRAYS = ".npy"
TABLES = {".txt", ".csv", ".tsv", ".json", ".md", ".yaml", ".yml", ".xml", ".html", ".pdf"}  # named, as labels may be
NAMED_EXTENSIONS = 6


@dataclass
class Listing:
    """The pictures below a folder, or in a ZIP archive, sorted by path.

    Attributes:
        root: the folder or archive.
        files: the paths of the pictures; those in an archive begin with the path of the archive.
        ignored: how many files were passed over, by their extension in lower case.
    """

    root: Path
    files: list[Path]
    ignored: Counter[str] = field(default_factory=Counter)

    def formats(self) -> str:
        """Return how many pictures there are of each format, as `40 PNG, 6 JPEG`."""
        names = Image.registered_extensions()
        counts = Counter(names.get(f.suffix.lower(), f.suffix[1:].upper()) for f in self.files)
        return ", ".join(f"{count:,} {name}" for name, count in counts.most_common())

    def passed_over(self) -> str:
        """Return how many files were passed over, as `60 files ignored (.heic 30, no extension 30)`; or nothing."""
        total = self.ignored.total()
        if not total:
            return ""
        named = [f"{extension or 'no extension'} {count:,}" for extension, count in self.ignored.most_common()]
        more = ", ..." if len(named) > NAMED_EXTENSIONS else ""
        return f"{total:,} {'file' if total == 1 else 'files'} ignored ({', '.join(named[:NAMED_EXTENSIONS])}{more})"


def list_pictures(root: Path, key: str = "data.root") -> Listing:
    """List all pictures below a folder or in a ZIP archive, without hidden ones.

    Every format that Pillow reads counts, by the extension. Arrays (.npy) are pictures only where there are no others.

    Args:
        root: the folder or archive.
        key: the option that named it, for the error message.

    Raises:
        UserError: it does not exist, or there is no picture in it.
    """
    if root.is_file() and is_zipfile(root):
        paths: Iterable[Path] = (root / name for name in _names_in(root))
    elif root.is_dir():
        paths = (path for path in _walk(root) if path.is_file())
    else:
        what = "is a file" if root.exists() else "does not exist"
        raise UserError(f"{root} {what}; a folder of pictures, or a ZIP archive, is expected there: {key}=FOLDER")
    known = picture_extensions()
    files = sorted(paths)
    pictures = [path for path in files if path.suffix.lower() in known]
    pictures = pictures or [path for path in files if path.suffix.lower() == ARRAYS]
    chosen = set(pictures)
    listing = Listing(root, pictures, Counter(path.suffix.lower() for path in files if path not in chosen))
    if not pictures:
        found = listing.passed_over() or "it is empty"
        raise UserError(
            f"{root} holds no pictures, not even in folders below it: {found}. Name the folder that does: {key}=FOLDER"
        )
    return listing


def find_files(root: Path) -> list[Path]:
    """List all files below a folder, sorted by path, without hidden ones."""
    return sorted(path for path in _walk(root) if path.is_file())


def _names_in(archive: Path) -> Iterator[str]:
    """The names of the files in a ZIP archive, without hidden ones and without folders."""
    try:
        with ZipFile(archive) as content:
            names = [info.filename for info in content.infolist() if not info.is_dir()]
    except (BadZipFile, OSError) as error:
        raise UserError(f"{archive} can't be read as a ZIP archive ({error})") from error
    for name in names:
        parts = Path(name).parts
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
        if not hidden and ".." not in parts and not Path(name).is_absolute():
            yield name


def _walk(root: Path) -> Iterator[Path]:
    """The files below a folder, without hidden ones. Links are followed, and each real folder is visited once."""
    visited: set[str] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        subfolders[:] = [] if real in visited else [name for name in subfolders if not name.startswith(".")]
        if real not in visited:
            yield from (Path(folder) / name for name in names if not name.startswith("."))
        visited.add(real)


class Archive:
    """A ZIP archive from which several processes read; each opens it for itself.

    Args:
        path: of the archive.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: tuple[int, ZipFile] | None = None

    def read(self, file: Path) -> bytes:
        """Return the content of a file, by its path as in `Listing.files`.

        Raises:
            OSError: it is damaged.
        """
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), ZipFile(self.path)
        try:
            return self._opened[1].read(file.relative_to(self.path).as_posix())
        except (BadZipFile, RuntimeError, NotImplementedError, KeyError) as error:  # a wrong sum; a password
            raise OSError(str(error)) from error

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_opened": None}

"""Pictures for the cases: small ones of noise, and TIFF files of any type of values."""

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image


def noise(*, grey: bool = False, size: int = 20, seed: int = 0) -> Image.Image:
    shape = (size, size) if grey else (size, size, 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def fill(folder: Path, count: int = 9, suffix: str = ".png", **options: Any) -> Path:
    """Write so many pictures into a folder, which is created."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        picture = noise(seed=zlib.crc32(f"{folder.name}/{i}".encode()), **options)
        picture.save(folder / f"{i}{suffix}", Image.registered_extensions().get(suffix.lower(), "PNG"))
    return folder


def tree(root: Path, counts: Mapping[str, int], **options: Any) -> Path:
    """Write pictures into folders below a root, so many into each."""
    for name, count in counts.items():
        fill(root / name, count, **options)
    return root


def tiff(values: np.ndarray, file: Path, big: bool = False) -> None:
    """Write a grey TIFF of one strip, of the type of the values."""
    order: Literal[">", "<"] = ">" if big else "<"
    content = values.astype(values.dtype.newbyteorder(order)).tobytes()
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    tags = {
        256: values.shape[1], 257: values.shape[0], 258: values.dtype.itemsize * 8, 259: 1, 262: 1, 273: 8, 277: 1,
        278: values.shape[0], 279: len(content), 339: kind,
    }  # fmt: skip
    head = (b"MM\0*" if big else b"II*\0") + struct.pack(f"{order}I", 8 + len(content))
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    file.write_bytes(head + content + struct.pack(f"{order}H", len(tags)) + entries + bytes(4))


def stored(cache: Path) -> np.ndarray:
    """The only decoded images of a cache, [N, C, H, W], scaled so that black is 0 and white is 1."""
    (file,) = cache.glob("*/images.npy")
    images = np.load(file)
    return images / 255.0 if images.dtype == np.uint8 else (images + 1) / 2

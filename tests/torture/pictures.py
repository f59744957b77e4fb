"""Damaged pictures: each is decoded, or named with a reason.

python tests/torture/pictures.py [HOW_MANY [SEED]]
"""

import io
import random
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image

from oakleaf.data.cache import decode_to_cache
from oakleaf.data.decoded import DecodedImages
from oakleaf.data.folder import Folder
from oakleaf.data.resize import CropResize
from oakleaf.errors import UserError
from torture.within import Outcome, Slow, limited, report, within

KINDS = [
    ("png", "RGB"), ("png", "L"), ("png", "P"), ("png", "I;16"), ("png", "RGBA"), ("jpg", "RGB"), ("jpg", "L"),
    ("jpg", "CMYK"), ("gif", "P"), ("tif", "RGB"), ("tif", "F"), ("webp", "RGB"), ("bmp", "RGB"), ("ppm", "RGB"),
]  # fmt: skip
EXTREME = [0, 1, 0x7F, 0x80, 0xFF]


def undamaged(suffix: str, mode: str) -> bytes:
    """A small picture of noise and a square."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    noise[6:18, 6:18] = 200
    picture = Image.fromarray(noise)
    deep = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    picture = deep if mode == "I;16" else picture.convert(mode)
    out = io.BytesIO()
    picture.save(out, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()))
    return out.getvalue()


def damaged(content: bytes, dice: random.Random) -> tuple[str, bytes]:
    """How, and what is left."""
    data = bytearray(content)
    how = dice.choice(["flip", "flip", "truncate", "header", "header", "number", "repeat", "zeros"])
    at = dice.randrange(len(data))
    if how == "flip":
        for _ in range(dice.randint(1, 20)):
            data[dice.randrange(len(data))] = dice.randrange(256)
    elif how == "truncate":
        del data[at:]
    elif how == "header":
        for _ in range(dice.randint(1, 6)):
            data[dice.randrange(min(64, len(data)))] = dice.choice(EXTREME)
    elif how == "number":  # a width, a length, an offset
        place = dice.randrange(min(120, len(data) - 4))
        number = dice.choice([0, 1, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**32 - 1])
        data[place : place + 4] = struct.pack(dice.choice("<>") + "I", number)
    elif how == "repeat":
        data[at:at] = data[at : at + dice.randint(1, 400)] * dice.randint(1, 50)
    else:
        data[at : at + 40] = bytes(len(data[at : at + 40]))
    return how, bytes(data)


def tried(content: bytes, suffix: str, folder: Path, name: str, seconds: int = 20) -> Outcome:
    """Return what the loader does with a picture, also where channels and size are read first."""
    root = folder / name
    root.mkdir()
    (root / f"picture.{suffix}").write_bytes(content)
    Image.new("L", (16, 16)).save(root / "whole.png")
    try:
        with within(seconds):
            found = decode_to_cache(Folder(root), CropResize(3, 16, 16, upscale=True), "skip", folder / "cache")
            stock = DecodedImages(Folder(root, upscale=True), None, 16, "center", "bilinear", "skip", folder / "cache")
            stock.prepare()
            stock.read()
    except Slow:
        return Outcome("hung", f"after {seconds} s")
    except UserError as error:  # the set as a whole is refused: bytes beside floats
        return Outcome("skipped", str(error))
    except Exception as error:
        return Outcome("traceback", repr(error)[:300])
    return Outcome("skipped", found.skipped[0]) if found.skipped else Outcome("decoded", "")


def all_tried(count: int, seed: int, folder: Path) -> Iterator[tuple[str, Outcome]]:
    dice = random.Random(seed)
    for number in range(count):
        suffix, mode = KINDS[number % len(KINDS)]
        how, content = damaged(undamaged(suffix, mode), dice)
        yield f"{number}: {suffix} {mode}, {how}", tried(content, suffix, folder, str(number))


def main(count: int = 300, seed: int = 0) -> int:
    limited()
    with tempfile.TemporaryDirectory() as folder:
        return report(all_tried(count, seed, Path(folder)), good={"decoded", "skipped"})


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))

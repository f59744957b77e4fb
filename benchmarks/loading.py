"""Loading, in images per second: python benchmarks/loading.py [--celeba FOLDER] [--rounds 5] [--side 1024]

CelebA's JPEGs to 64 x 64 tensors in [-1, 1], batch 64: the data module, which decodes once and keeps bytes, beside
ImageFolder, PIL and a DataLoader of two workers. The first epoch of the data module includes decoding and writing the
cache; both read files that the system already has in memory. Each round is a fresh process of each, in turn.
--side: in place of CelebA's files a thousand of them enlarged, each a JPEG with sides of so many pixels.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from contest import record
from PIL import Image, ImageOps

BATCH, SIZE = 64, 64
EPOCHS = 3


def theirs(folder: Path) -> list[float]:
    import torchvision.transforms as transforms
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    steps = [transforms.Resize(SIZE), transforms.CenterCrop(SIZE), transforms.RandomHorizontalFlip()]
    steps += [transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
    data = ImageFolder(str(folder), transforms.Compose(steps))
    loader: DataLoader[object] = DataLoader(data, BATCH, shuffle=True, num_workers=2, drop_last=True)
    seconds = []
    for _ in range(EPOCHS):
        begin = time.perf_counter()
        for _ in loader:
            pass
        seconds.append(time.perf_counter() - begin)
    return [len(data) / s for s in seconds]


def ours(folder: Path) -> list[float]:
    import torch

    from oakleaf.data import Images
    from oakleaf.data.celeba import CelebA
    from oakleaf.data.folder import Folder
    from oakleaf.data.sampling import DeviceLoader, EpochSampler

    seconds = []
    with tempfile.TemporaryDirectory() as cache:
        begin = time.perf_counter()
        source = CelebA(folder) if (folder / "img_align_celeba").is_dir() else Folder(folder)
        data = Images("celeba", lambda root: source, str(folder), SIZE, 3, flip=True, batch_size=BATCH, cache=cache)
        data.prepare_data()
        data.setup()
        iteration = 0
        loader = DeviceLoader(data.rows, EpochSampler(len(source), BATCH, seed=0), lambda: iteration)
        for _ in range(EPOCHS):
            for batch in loader:
                data.transform(batch, torch.float32, seed=iteration)
                iteration += 1
            seconds.append(time.perf_counter() - begin)
            begin = time.perf_counter()
    return [len(source) / s for s in seconds]


def enlarged(folder: Path, side: int, place: Path, count: int = 1000) -> Path:
    """The first pictures, enlarged, in a folder for one class."""
    (place / "all").mkdir()
    for file in islice((folder / "img_align_celeba").iterdir(), count):
        with Image.open(file) as picture:
            ImageOps.fit(picture, (side, side), Image.Resampling.BICUBIC).save(place / "all" / file.name, quality=90)
    return place


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--celeba", type=Path, default=Path("data/celeba"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", type=int)
    parser.add_argument("--who", choices=["ours", "theirs"])
    a = parser.parse_args()
    if a.who:
        print(*(ours if a.who == "ours" else theirs)(a.celeba))
        return
    rates: dict[str, list[list[float]]] = {"ours": [], "theirs": []}
    with tempfile.TemporaryDirectory() as place:
        folder = enlarged(a.celeba, a.side, Path(place)) if a.side else a.celeba
        for _ in range(a.rounds):
            for who, found in rates.items():
                words = [sys.executable, __file__, "--celeba", str(folder), "--who", who]
                found.append(
                    [float(x) for x in subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()]
                )
    rows = []
    for epoch, at in (("first epoch", 0), ("later epochs", -1)):
        each = [a[at] / b[at] for a, b in zip(rates["ours"], rates["theirs"])]
        rows.append(
            {
                "epoch": epoch,
                "oakleaf images/s": statistics.median(r[at] for r in rates["ours"]),
                "ImageFolder images/s": statistics.median(r[at] for r in rates["theirs"]),
                "ratio": statistics.median(each),
                "lowest": min(each),
                "highest": max(each),
            }
        )
    files = f"CelebA's JPEGs enlarged to {a.side} x {a.side}" if a.side else "CelebA's JPEGs"
    record(f"loading-{a.side}" if a.side else "loading", f"{files} to 64 x 64 tensors", rows)


if __name__ == "__main__":
    main()

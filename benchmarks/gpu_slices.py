"""Recipes, pictures and table of benchmarks/gpu.sh: gpu_slices.py recipes | pictures FOLDER | table OUT"""

import csv
import json
import statistics
import sys
from pathlib import Path

import numpy as np
from PIL import Image

RECIPES = {
    "dcgan_64": "model=dcgan data.size=64",
    "dcgan_64_r3gan_loss": "model=dcgan loss=relativistic data.size=64",
    "sngan_resnet_32": "model=sngan_resnet data.size=32",
    "sagan_128": "model=sagan model/condition=label data.size=128 data.batch_size=32",
    "biggan_128": "model=biggan model/condition=label data.size=128 data.batch_size=32",
    "biggan_deep_128": "model=biggan_deep model/condition=label data.size=128 data.batch_size=32",
    "stylegan2_256": "model=stylegan2 data.size=256 data.batch_size=16",
    "stylegan2_ada_256": "model=stylegan2 augment=ada data.size=256 data.batch_size=16",
    "r3gan_64": "model=r3gan data.size=64 data.batch_size=64",
    "r3gan_fd_64": "model=r3gan loss=relativistic_fd data.size=64 data.batch_size=64",
    "fastgan_256": "model=fastgan data.size=256 data.batch_size=8",
}
PICTURES, CLASSES, SIDE = 1024, 10, 256


def write_pictures(folder: Path) -> None:
    """Write smooth noise, whose colours belong to its class."""
    random = np.random.default_rng(0)
    for number in range(PICTURES):
        file = folder / str(number % CLASSES) / f"{number:04d}.jpg"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            small = random.integers(0, 256, (8, 8, 3)) * 0.7 + 25 * np.array([number % 3, number % 5, number % 2])
            image = Image.fromarray(small.clip(0, 255).astype(np.uint8))
            image.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, quality=92)


def write_table(out: Path) -> None:
    """Write the table of all recipes that have logged anything, and print it."""
    lines = ["| recipe | images | images/s | GPU memory, GB | commit |", "|---|---|---|---|---|"]
    for name in RECIPES:
        rates, images = _rates(out / name / "metrics.csv")
        if not rates:
            lines.append(f"| `{name}` | | failed | | |")
            continue
        session = json.loads((out / name / "run.json").read_text())["sessions"][-1]
        memory = session.get("peak_memory", {}).get("GPU", 0) / 1e9
        rate = statistics.median(rates[len(rates) // 4 :])
        lines.append(f"| `{name}` | {images:,} | {rate:,.0f} | {memory:.1f} | {session['commit']} |")
        machine, versions = session["machine"], session["versions"]
    if len(lines) > 2 + sum("failed" in line for line in lines):
        lines += ["", f"{machine['GPUs']}, {machine['processor']}, torch {versions['torch']}."]
    (out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def _rates(file: Path) -> tuple[list[float], int]:
    if not file.is_file():
        return [], 0
    with file.open(newline="") as content:
        rows = list(csv.DictReader(content))
    rates = [float(row["images_per_second"]) for row in rows if row.get("images_per_second")]
    return rates, int(float(rows[-1]["images"])) if rows else 0


def main() -> None:
    what, *where = sys.argv[1:]
    if what == "recipes":
        print("\n".join(f"{name} {overrides}" for name, overrides in RECIPES.items()))
    elif what == "pictures":
        write_pictures(Path(where[0]))
    else:
        write_table(Path(where[0]))


if __name__ == "__main__":
    main()

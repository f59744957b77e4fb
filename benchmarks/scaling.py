"""How images per second change with batch, resolution, width and processes: python benchmarks/scaling.py [--rounds 3]

DCGAN as its users run it (`contestants/framework.py`), on digits enlarged to three channels, so that data cost next to
nothing, on a GPU where there is one. One thing at a time differs from the base; all train side by side, each in turn.
The joint batch of several processes is that of one; on a machine with a single GPU there is no such row.
"""

import argparse
import os
import sys

import torch
from contest import HERE, Contestant, race, ratios, record

BASE = {"width": 32, "size": 64, "batch": 64, "processes": 1}
OTHERS = [("width", 16), ("width", 64), ("size", 32), ("size", 128), ("batch", 16), ("batch", 256), ("processes", 2)]
GPU = torch.cuda.is_available()
TURNS = 50 if GPU else 1  # between two signs of life
if GPU and torch.cuda.device_count() < 2:
    OTHERS.remove(("processes", 2))


def contestant(name: str, width: int, size: int, batch: int, processes: int) -> Contestant:
    recipe = [
        "model=dcgan",
        "data=digits",
        "data.channels=3",
        f"data.size={size}",
        "logger=csv",
        "max_images=100000000",
    ]
    recipe += [f"model.game.{player}.width={width}" for player in ("generator", "discriminator")]
    recipe += [f"data.batch_size={batch // processes}"]  # the joint batch stays
    accelerator = "gpu" if GPU else "cpu"
    recipe += ["trainer=ddp", f"trainer.accelerator={accelerator}", f"trainer.devices={processes}"] * (processes > 1)
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes))}
    command = [sys.executable, HERE / "contestants" / "framework.py", TURNS, *recipe]
    images = TURNS * batch // processes  # each process gives its own sign
    return Contestant(name, command, images, environment=threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    a = parser.parse_args()
    points = {"base": BASE} | {f"{key} {value}": {**BASE, key: value} for key, value in OTHERS}
    rates = race([contestant(name, **point) for name, point in points.items()], a.rounds, a.seconds)
    rows = []
    for name, point in points.items():
        median, lowest, highest = ratios(rates, name, "base")
        rate = sorted(rates[name])[len(rates[name]) // 2]
        rows.append({**point, "images/s": rate, "ratio": median, "lowest": lowest, "highest": highest})
    record("scaling", "DCGAN: images/s by width, size, batch and processes", rows)


if __name__ == "__main__":
    main()

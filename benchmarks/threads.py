"""OpenMP's threads: python benchmarks/threads.py [--rounds 5] [--seconds 6] [--recipes digits mlp dcgan]

The same training with different numbers of threads and ways to wait for each other, while the other cores are idle and
while one of them computes something else (a process that counts). torch's wheels use GNU's libgomp: a thread that has
finished its part of an operation spins for about 3 ms (GOMP_SPINCOUNT=300000) before it sleeps; with
OMP_WAIT_POLICY=PASSIVE it sleeps at once. Every contestant is a process of its own, and they take turns.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from contest import HERE, Contestant, race, record

FRAMEWORK = HERE / "contestants" / "framework.py"
RECIPES = {  # iterations between two signs of life, batch size, overrides
    "digits": (2, 32, ["experiment=digits_dcgan"]),
    "perceptrons": (50, 128, ["model=toy", "data=toy", "data.batch_size=128", "max_images=1000000000"]),
    "dcgan-64": (1, 64, ["model=dcgan", "data=celeba", "data.batch_size=64"]),
}
CORES = str(len(os.sched_getaffinity(0)))
WAYS = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "torch's default": {"OMP_NUM_THREADS": CORES, "GOMP_SPINCOUNT": "300000"},
    "short spin": {"OMP_NUM_THREADS": CORES, "GOMP_SPINCOUNT": "1000"},
    "passive": {"OMP_NUM_THREADS": CORES, "OMP_WAIT_POLICY": "PASSIVE"},
}


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Let so many processes count while the block runs."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0)
    a = parser.parse_args()
    rows = []
    for recipe in a.recipes:
        iterations, batch, overrides = RECIPES[recipe]
        command = [sys.executable, FRAMEWORK, iterations, *overrides, "logger=csv", "compile=false"]
        field = [Contestant(way, command, iterations * batch, environment=them) for way, them in WAYS.items()]
        for others in (0, 1):
            with busy(others):
                rates = race(field, a.rounds, a.seconds)
            for way, each in rates.items():
                relative = [mine / one for mine, one in zip(each, rates["one thread"])]
                rows.append(
                    {
                        "recipe": recipe,
                        "other processes": others,
                        "threads": way,
                        "images/s": statistics.median(each),
                        "to one thread": statistics.median(relative),
                        "lowest": min(relative),
                        "highest": max(relative),
                    }
                )
    record("threads", f"Threads on {CORES} cores, by how they wait and what else runs", rows)


if __name__ == "__main__":
    main()

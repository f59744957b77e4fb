"""What the framework costs a step: python benchmarks/frame.py [--rounds 7] [--seconds 8]

Oakleaf with its callbacks, bar and loggers beside the same step written out by hand (`contestants/bare.py real`), for a
DCGAN of 64 x 64 pixels, where a step is long, and for perceptrons on points, where it is short.
"""

import argparse
import statistics
import sys

import torch
from contest import HERE, Contestant, compared, race, record

CONTESTANTS = HERE / "contestants"
CASES = {
    "DCGAN-64, batch 64": (
        50 if torch.cuda.is_available() else 1,
        64,
        ["model=dcgan", "data=celeba", "data.batch_size=64"],
    ),
    "perceptrons on the ring, batch 128": (
        50,
        128,
        ["model=toy", "data=toy", "data.batch_size=128", "max_images=1000000000"],
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=8.0)
    a = parser.parse_args()
    rows = []
    for name, (turns, batch, recipe) in CASES.items():
        if a.only not in name:
            continue
        shared = [*recipe, "logger=csv"]
        # a perceptron's products are too small to share out
        threads = {"OMP_NUM_THREADS": "1"} if name.startswith("perceptrons") else {}
        field = [
            ("oakleaf", [sys.executable, CONTESTANTS / "framework.py", turns, *shared, "compile=false"]),
            ("by hand", [sys.executable, CONTESTANTS / "bare.py", "real", turns, "false", *shared]),
        ]
        rates = race(
            [Contestant(who, words, turns * batch, environment=threads) for who, words in field], a.rounds, a.seconds
        )
        ours, theirs = compared(rates, "oakleaf")
        steps = [batch / rate * 1e3 for rate in (ours["images/s"], theirs["images/s"])]
        apart = [batch * 1e3 * (1 / x - 1 / y) for x, y in zip(rates["oakleaf"], rates["by hand"])]
        rows.append(
            {
                "step": name,
                "oakleaf ms": steps[0],
                "by hand ms": steps[1],
                "apart ms": statistics.median(apart),
                "share": statistics.median(apart) / steps[1],
            }
        )
    record("frame" if not a.only else f"frame {a.only}", "What the framework adds to a step", rows)


if __name__ == "__main__":
    main()

"""What the framework costs a step: python benchmarks/frame.py [--starts 3] [--rounds 5] [--seconds 8]

Oakleaf with its callbacks, bar and loggers beside the same step written out by hand (`contestants/bare.py real`), for a
DCGAN of 64 x 64 pixels, where a step is long, and for perceptrons on points, where it is short. Both start anew
`--starts` times: alone on a machine, two processes of one program may be a fifth apart for as long as they live.
"""

import argparse
import statistics
import sys

import torch
from contest import HERE, Contestant, race, record

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


def _apart(rates: dict[str, list[float]]) -> float:
    """How much longer Oakleaf's step is, as a share of the step by hand: the median over a start's rounds."""
    return statistics.median(y / x - 1 for x, y in zip(rates["oakleaf"], rates["by hand"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5, help="of each start")
    parser.add_argument("--seconds", type=float, default=8.0)
    a = parser.parse_args()
    rows = []
    for name, (iterations, batch, recipe) in CASES.items():
        if a.only not in name:
            continue
        shared = [*recipe, "logger=csv"]
        # a perceptron's products are too small to share out
        threads = {"OMP_NUM_THREADS": "1"} if name.startswith("perceptrons") else {}
        field = [
            ("oakleaf", [sys.executable, CONTESTANTS / "framework.py", iterations, *shared, "compile=false"]),
            ("by hand", [sys.executable, CONTESTANTS / "bare.py", "real", iterations, "false", *shared]),
        ]
        contestants = [Contestant(who, words, iterations * batch, environment=threads) for who, words in field]
        races = [race(contestants, a.rounds, a.seconds) for _ in range(a.starts)]
        steps = {who: [batch * 1e3 / rate for rates in races for rate in rates[who]] for who, _ in field}
        apart = [x - y for x, y in zip(steps["oakleaf"], steps["by hand"])]
        ours, theirs = (statistics.median(steps[who]) for who, _ in field)
        rows.append(
            {
                "step": name,
                "oakleaf ms": ours,
                "by hand ms": theirs,
                "difference ms": statistics.median(apart),
                "share": statistics.median(apart) / theirs,
                "lowest": min(apart) / theirs,
                "highest": max(apart) / theirs,
                "starts": ", ".join(f"{_apart(rates):+.1%}" for rates in races),
            }
        )
    record("frame" if not a.only else f"frame {a.only}", "What the framework adds to a step", rows)


if __name__ == "__main__":
    main()

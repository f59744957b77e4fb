"""What the framework costs a step: python benchmarks/frame.py [--starts 3] [--rounds 5] [--seconds 8]

Oakleaf with its callbacks, bar and loggers beside the same step written out by hand (`contestants/bare.py real`), for a
DCGAN of 64 x 64 pixels, where a step is long, and for perceptrons on points, where it is short. Both start anew
`--starts` times: alone on a machine, two processes of one program may be a fifth apart for as long as they live.
With `--before FOLDER`, another checkout takes the place of the step written out by hand.
"""

import argparse
import statistics
import sys
from pathlib import Path

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
    (ours, theirs) = rates.values()
    return statistics.median(y / x - 1 for x, y in zip(ours, theirs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5, help="of each start")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--before", type=Path, help="another checkout, instead of the step by hand")
    a = parser.parse_args()
    rows = []
    for name, (iterations, batch, recipe) in CASES.items():
        if a.only not in name:
            continue
        shared = [*recipe, "logger=csv"]
        # a perceptron's products are too small to share out
        threads = {"OMP_NUM_THREADS": "1"} if name.startswith("perceptrons") else {}
        ours_words = [iterations, *shared, "compile=false"]
        other, place = ("before", a.before.resolve()) if a.before else ("by hand", HERE.parent)
        words = (
            [place / "benchmarks/contestants/framework.py", *ours_words]
            if a.before
            else [CONTESTANTS / "bare.py", "real", iterations, "false", *shared]
        )
        field = [("oakleaf", HERE.parent, [CONTESTANTS / "framework.py", *ours_words]), (other, place, words)]
        contestants = [
            Contestant(
                who,
                [sys.executable, *command],
                iterations * batch,
                environment={**threads, "PYTHONPATH": str(root / "src")},
            )
            for who, root, command in field
        ]
        races = [race(contestants, a.rounds, a.seconds) for _ in range(a.starts)]
        steps = {who: [batch * 1e3 / rate for rates in races for rate in rates[who]] for who, *_ in field}
        apart = [x - y for x, y in zip(steps["oakleaf"], steps[other])]
        ours, theirs = (statistics.median(steps[who]) for who, *_ in field)
        rows.append(
            {
                "step": name,
                "oakleaf ms": ours,
                f"{other} ms": theirs,
                "difference ms": statistics.median(apart),
                "share": statistics.median(apart) / theirs,
                "lowest": min(apart) / theirs,
                "highest": max(apart) / theirs,
                "starts": ", ".join(f"{_apart(rates):+.1%}" for rates in races),
            }
        )
    name = f"frame{' before and after' if a.before else ''}{f' {a.only}' if a.only else ''}"
    record(name, "A step before and after a change" if a.before else "What the framework adds to a step", rows)


if __name__ == "__main__":
    main()

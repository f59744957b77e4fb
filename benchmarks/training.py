"""Training, in images per second: python benchmarks/training.py [--examples CHECKOUT] [--rounds 7] [--seconds 10]

DCGAN, 64 x 64, on CelebA's JPEGs: Oakleaf beside the loop that everybody starts from, beside the same step by hand on
noise (the bare limit), and beside the PyTorch examples' own script if a checkout of them is named.
"""

import argparse
import sys
from pathlib import Path

from contest import HERE, Contestant, compared, race, record

CONTESTANTS = HERE / "contestants"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--celeba", type=Path, default=Path("data/celeba"), help="the folder of img_align_celeba/")
    parser.add_argument("--examples", type=Path, help="a checkout of github.com/pytorch/examples")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--turns", type=int, default=1, help="turns between two signs of life; 50 on a GPU")
    parser.add_argument("--compile", default="auto", help="true, false or auto")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=10.0)
    a = parser.parse_args()
    python, batch, folder = sys.executable, a.batch, a.celeba.resolve()
    recipe = ["model=dcgan", "data=celeba", f"data.root={folder}", f"data.batch_size={batch}", "logger=csv"]
    ours = [*recipe, "max_images=100000000", f"compile={a.compile}"]
    bare = str(a.compile == "true").lower()
    field = [
        Contestant("oakleaf", [python, CONTESTANTS / "framework.py", a.turns, *ours], a.turns * batch),
        Contestant("tutorial", [python, CONTESTANTS / "tutorial.py", folder, batch], batch),
        Contestant("limit", [python, CONTESTANTS / "bare.py", "random", a.turns, bare, *recipe], a.turns * batch),
    ]
    if a.examples:
        script = a.examples.resolve() / "dcgan" / "main.py"
        words = ["--dataset", "folder", "--dataroot", folder, "--batchSize", batch, "--workers", 2, "--outf", "/tmp"]
        words += ["--niter", 1000, "--accel"]
        field.append(Contestant("pytorch/examples", [python, script, *words], batch, sign=r"^\[\d+/\d+\]\[\d+/\d+\]"))
    rates = race(field, a.rounds, a.seconds)
    record(f"training dcgan batch {batch}", f"DCGAN-64 on CelebA, batch {batch}", compared(rates, "oakleaf"))


if __name__ == "__main__":
    main()

"""Runs killed at random moments and resumed: do they end at the weights of the uninterrupted run?

python tests/torture/kills.py [HOW_MANY [SEED]]

Each attempt is `train.py ... resume=auto` in a forked process, killed by SIGKILL: after a random time, between two
iterations, or while a checkpoint is written (before, during and after the write, and after the renaming). A run that
ends is compared bit for bit and started again, until so many kills have been survived.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from helpers.commands import quick
from helpers.composing import FP32, SMALL
from oakleaf.runtime.checkpoint_io import read_checkpoint

IMAGES = 1600
RUN = [
    "train", "data=digits", *SMALL, *FP32, "logger=csv", "trainer.enable_progress_bar=false", f"max_images={IMAGES}",
    "callbacks.checkpoint.every=80", "callbacks.checkpoint.keep_every=400", "resume=auto",
]  # fmt: skip
Trap = Callable[[], None]


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after(seconds: float) -> Trap:
    return lambda: threading.Timer(seconds, die).start()


def in_saving(number: int, share: float) -> Trap:
    """In the so-many-th saving, when that share of the file is written; 1: before it gets its name."""

    def trap() -> None:
        real, seen = torch.save, [0]

        def save(content: Any, file: Any) -> None:
            real(content, file)
            seen[0] += 1
            if seen[0] == number:
                file.truncate(int(file.tell() * share))
                die()

        torch.save = save

    return trap


def after_renaming(number: int) -> Trap:
    def trap() -> None:
        real, seen = Path.replace, [0]

        def replace(self: Path, target: Any) -> Path:
            moved = real(self, target)
            seen[0] += 1
            if seen[0] == number:
                die()
            return moved

        Path.replace = replace  # type: ignore[method-assign]

    return trap


def attempt(folder: Path, trap: Trap | None) -> int:
    """What a forked process that trains ends with: minus the signal, or its code."""
    pid = os.fork()
    if pid == 0:
        try:
            torch.set_num_threads(1)
            if trap:
                trap()
            os._exit(quick(*RUN, f"hydra.run.dir={folder}", folder=folder.parent).returncode)
        except BaseException:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def same(a: Path, b: Path) -> bool:
    mine, theirs = (read_checkpoint(path / "checkpoints" / "last.ckpt") for path in (a, b))
    weights, others = mine["state_dict"], theirs["state_dict"]
    alike = weights.keys() == others.keys() and all(torch.equal(weights[key], others[key]) for key in weights)
    return alike and mine["images_seen"] == theirs["images_seen"] == IMAGES


def torture(kills: int, seed: int, place: Path) -> Counter[str]:
    """What became of so many kills."""
    dice, found = random.Random(seed), Counter[str]()
    uninterrupted, folder = place / "whole", place / "killed"
    assert attempt(uninterrupted, None) == 0
    while found["kills"] < kills:
        kind = dice.choice(["at a random moment", "inside a saving", "inside a saving", "after a renaming"])
        if kind == "inside a saving":
            trap = in_saving(dice.randint(1, 4), dice.choice([0.0, dice.random(), 1.0]))
        elif kind == "after a renaming":
            trap = after_renaming(dice.randint(1, 4))
        else:
            trap = after(dice.uniform(0.1, 2.0))
        code = attempt(folder, trap)
        if code == -signal.SIGKILL:
            found["kills"] += 1
            found[kind] += 1
        elif code == 0:
            found["ended alike" if same(uninterrupted, folder) else "ENDED OTHERWISE"] += 1
            shutil.rmtree(folder)
        else:
            found[f"CODE {code}"] += 1
    if code := attempt(folder, None):
        found[f"CODE {code}"] += 1
    else:
        found["ended alike" if same(uninterrupted, folder) else "ENDED OTHERWISE"] += 1
    return found


def main() -> int:
    kills, seed = (int(word) for word in (*sys.argv[1:], *("50", "0")[len(sys.argv) - 1 :]))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        found = torture(kills, seed, Path(place))
    for what, count in found.most_common():
        print(f"{count:5d}  {what}")
    return int(any(what.isupper() or what.startswith("CODE") for what in found))


if __name__ == "__main__":
    sys.exit(main())

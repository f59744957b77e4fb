"""Starting, in seconds: python benchmarks/start.py [--rounds 5]

How long `train.py --help` and the answer to a typo take, and how long it is from the command `experiment=digits` to the
end of its first turn, part by part. Each round is a fresh process of each, in turn; files are in the system's memory.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from contest import HERE, record

TRAIN = str(HERE.parent / "train.py")
ANSWERS = {"--help": "--help", "a typo": "modle=dcgan"}
LAST = "read data, first iteration"
FIRST = ["experiment=digits", "logger=csv", "trainer.enable_progress_bar=false"]


def answered(argument: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, TRAIN, argument], capture_output=True)
    return time.perf_counter() - begin


def first_turn() -> dict[str, float]:
    """The parts, measured inside a process of its own, and the whole as seen from here."""
    begin, seconds = time.perf_counter(), {}
    with subprocess.Popen([sys.executable, __file__, "--inside"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if "\t" in line:
                name, value = line.split("\t")
                seconds[name] = float(value)
                whole = time.perf_counter() - begin
    assert LAST in seconds, "it ended before its first turn"
    return {"start Python": whole - sum(seconds.values()), **seconds, "total": whole}


def inside() -> None:
    """What train.py does until its first turn is over."""
    from oakleaf.cli.hardware import import_torch

    clock = time.perf_counter()

    def part(name: str, do: Callable[[], Any]) -> Any:
        nonlocal clock
        done = do()
        print(f"{name}\t{time.perf_counter() - clock}", flush=True)
        clock = time.perf_counter()
        return done

    part("import torch", lambda: __import__("torch"))
    part("import torchvision, and torchmetrics, which Lightning needs", import_torch)
    part("import lightning", lambda: __import__("lightning.pytorch"))
    part("import oakleaf", lambda: (__import__("oakleaf.builder.recipe"), __import__("oakleaf.callbacks")))
    with tempfile.TemporaryDirectory() as folder:
        config = part("compose", lambda: composed(folder))
        from oakleaf.builder.build import build
        from oakleaf.builder.trainer import build_trainer

        module, data, recipe = part("build networks", lambda: build(config))
        trainer = part("build trainer", lambda: build_trainer(recipe))
        begin = time.perf_counter()
        trainer.callbacks.append(_stop(lambda: print(f"{LAST}\t{time.perf_counter() - begin}", flush=True)))
        trainer.fit(module, datamodule=data)


def composed(folder: str) -> Any:
    from oakleaf.builder import compose

    return compose.compose_config("train", [*FIRST, f"folder={folder}"])


def _stop(say: Callable[[], None]) -> Any:
    from lightning.pytorch import Callback

    class Stop(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:  # type: ignore[override]
            say()
            trainer.should_stop = True

    return Stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--inside", action="store_true", help="used by this program itself")
    a = parser.parse_args()
    if a.inside:
        inside()
        return
    answered("--help"), first_turn()  # bring the files into memory
    seconds: dict[str, list[float]] = {}
    for _ in range(a.rounds):
        for name, argument in ANSWERS.items():
            seconds.setdefault(name, []).append(answered(argument))
        for name, value in first_turn().items():
            seconds.setdefault(f"first iteration: {name}", []).append(value)
    rows = [
        {"what": name, "seconds": statistics.median(each), "lowest": min(each), "highest": max(each)}
        for name, each in seconds.items()
    ]
    record("start", f"Seconds from the command to an answer, and to the end of the first iteration of {FIRST[0]}", rows)


if __name__ == "__main__":
    main()

"""F1: two processes in one run. F3: signals in every phase."""

import os
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from torture.reports.pictures import fill, noise
from torture.reports.running import (
    DIGITS,
    FOLDER,
    Check,
    Command,
    faults,
    joined,
    no_partial_files,
    none_left,
    run,
    signal_at,
)  # fmt: skip

OWNED = "belongs to a run that is going on"
CODES = {
    signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 138, signal.SIGHUP: 129, signal.SIGUSR2: 140,
    signal.SIGXCPU: 152,
}  # fmt: skip
LONG = ["resume=rt", "max_images=100000000", "callbacks.checkpoint.every=100000000"]


def two_processes(place: Path) -> Iterator[Check]:
    """F1: whoever comes second is refused, whatever it calls the folder; the first goes on."""
    ended = run(place, "train", *DIGITS, "folder=rt")
    yield Check("a run to share", faults(ended, 0))
    shutil.copytree(place / "rt", place / "copy")
    (place / "link").symlink_to(place / "rt")
    first = Command(place, "train", *LONG)
    first.until(lambda: "until" in first.files[0].read_text())
    seconds = {
        "resume=FOLDER": ["train", "resume=rt", "max_images=3000"],
        "resume=CHECKPOINT": ["train", "resume=rt/checkpoints/last.ckpt", "max_images=3000"],
        "an absolute path": ["train", f"resume={place}/rt", "max_images=3000"],
        "a link to the folder": ["train", "resume=link", "max_images=3000"],
        "a new run in the folder": ["train", *DIGITS, "folder=rt"],
        "resume=auto": ["train", *DIGITS, "folder=rt", "resume=auto", "max_images=3000"],
        "hydra.run.dir": ["train", *DIGITS, "hydra.run.dir=rt"],
        "another data set": ["train", "data=mnist", "folder=rt"],
    }
    for name, line in seconds.items():
        yield Check(f"second process: {name}", faults(run(place, *line), 1, OWNED, str(first.pid)))
    python = run(place, call=lambda: _in_python("resume=rt", "max_images=3000"))
    yield Check("second process: oakleaf.train", faults(python, 0, "UserError", OWNED))
    os.kill(first.pid, signal.SIGSTOP)  # suspended, not ended
    yield Check("the first one is suspended", faults(run(place, *seconds["resume=FOLDER"]), 1, OWNED))
    os.kill(first.pid, signal.SIGCONT)
    yield Check("sample.py reads the running run", faults(run(place, "sample", "checkpoint=rt", "count=2"), 0))
    yield Check("a copy is another run", faults(run(place, "train", "resume=copy", "max_images=16"), 0))
    ended = first.send(signal.SIGTERM).ended()
    rows = [row.split(",")[0] for row in (place / "rt/metrics.csv").read_text().splitlines()[1:]]
    mixed = "" if [*map(int, rows)] == sorted({*map(int, rows)}) else "rows are woven into each other"
    yield Check(
        "the first one goes on", joined(faults(ended, 143, several=True), mixed, none_left(place / "rt/.owner"))
    )
    first = Command(place, "train", *LONG)
    first.until(lambda: (place / "rt/.owner").exists()).send(signal.SIGKILL)
    ended = first.ended()
    yield Check("after SIGKILL the folder is free", faults(run(place, "train", "resume=rt", "max_images=16"), 0))
    yield Check("a new run beside it", _at_the_same_time(place))


def _in_python(*overrides: str) -> None:
    import oakleaf

    try:
        oakleaf.train(overrides)
    except oakleaf.errors.UserError as error:
        print("UserError", error)


def _at_the_same_time(place: Path) -> str:
    """Two commands of the same second have folders of their own."""
    both = [Command(place, "train", *DIGITS) for _ in range(2)]
    found = joined(*(faults(one.ended(), 0) for one in both))
    runs = [*(place / "outputs/dcgan-digits").glob("*/checkpoints/last.ckpt")]
    return joined(found, "" if len(runs) == 2 else f"{len(runs)} runs")


def phases() -> dict[str, tuple[Any, str]]:
    """The function at whose call the signal arrives, by phase."""
    import lightning
    import torch

    import oakleaf.builder.recipe as recipe
    import oakleaf.cli.main as main
    import oakleaf.cli.run_report as run_report
    import oakleaf.cli.train as train
    import oakleaf.data.cache as cache
    import oakleaf.data.folder as folder
    import oakleaf.data.manifest as manifest
    from oakleaf.builder import trainer
    from oakleaf.callbacks import Checkpoint, Samples
    from oakleaf.data import Images
    from oakleaf.gan import GAN

    return {
        "composing": (main, "for_new_classes"),
        "importing torch": (train, "import_torch"),
        "listing": (folder, "list_pictures"),
        "hashing": (manifest, "_hash_files"),
        "writing the manifest": (manifest, "_write"),
        "validating": (recipe, "validate"),
        "decoding": (cache, "_decode_all"),
        "opening the data": (Images, "setup"),
        "building the Trainer": (trainer, "build_trainer"),
        "the first report": (run_report, "begin"),
        "starting the Trainer": (lightning.pytorch.Trainer, "fit"),
        "the first samples": (Samples, "on_train_start"),
        "an iteration": (GAN, "training_step"),
        "an optimizer's step": (torch.optim.Adam, "step"),
        "a saving": (Checkpoint, "on_train_end"),
        "the writing of a checkpoint": (torch, "save"),
        "the last samples": (Samples, "on_train_end"),
        "the last lines": (run_report, "finish"),
    }


TRAINED = {"an iteration", "an optimizer's step", "a saving", "the writing of a checkpoint"}  # saved and ended


def signals(place: Path) -> Iterator[Check]:
    """F3: one sentence, the code of the signal, nothing left, and the next start reaches its end."""
    fill(place / "pictures", 12)
    line = [
        "train",
        *FOLDER,
        "data.root=pictures",
        "max_images=64",
        "callbacks.samples={_target_: oakleaf.callbacks.Samples, folder: r/samples}",
    ]
    line = [one for one in line if one not in ("callbacks.samples=null", "max_images=8")]
    numbers = [*CODES.items()]
    for turn, (phase, (target, name)) in enumerate(phases().items()):
        number, code = numbers[turn % 3]
        cache = {"OAKLEAF_CACHE": str(place / f"cache{turn}")}
        ended = run(place, *line, f"folder=r{turn}", trap=partial(signal_at, target, name, number), **cache)
        text = faults(ended, code, f"stopped by {number.name}", several="is saved and ends" in ended.out)
        text = joined(text, no_partial_files(place / f"cache{turn}"), none_left(place / f"r{turn}/.owner"))
        saved = (place / f"r{turn}/checkpoints/last.ckpt").exists()
        text = joined(text, "" if saved else none_left(place / f"r{turn}"))
        if phase in TRAINED and not saved:
            text = joined(text, "not saved")
        yield Check(f"{number.name} in {phase}", text)
        if turn % 4 == 0:
            again = run(place, *line, f"folder=r{turn}", "resume=auto", **cache)
            yield Check(f"the start after {phase}", joined(faults(again, 0), no_partial_files(place / f"r{turn}")))


def other_signals(place: Path) -> Iterator[Check]:
    """F3: the other signals of terminals and schedulers, in a training and before it."""
    from oakleaf.cli import train
    from oakleaf.gan import GAN

    for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGXCPU):
        for name, target in {"import_torch": train, "training_step": GAN}.items():
            folder = place / f"{name}{int(number)}"
            ended = run(place, "train", *DIGITS, f"folder={folder}", trap=partial(signal_at, target, name, number))
            text = faults(ended, CODES[number], f"stopped by {number.name}", several=target is GAN)
            text = joined(text, none_left(folder / ".owner"))
            saved = (folder / "checkpoints/last.ckpt").exists()
            yield Check(
                f"{number.name} at {name}", joined(text, "" if saved == (target is GAN) else "not as it should be")
            )
    ignored = run(
        place, "train", *DIGITS, "folder=nohup",
        trap=lambda: (signal.signal(signal.SIGHUP, signal.SIG_IGN), signal_at(GAN, "training_step", signal.SIGHUP)),
    )  # fmt: skip
    yield Check("SIGHUP under nohup", faults(ignored, 0))


def decoding(place: Path) -> Iterator[Check]:
    """F3: signals from outside while several processes decode, to one process and to the terminal's whole group."""
    for i in range(4):
        fill(place / "large", 1, size=900)
        noise(size=900, seed=i).save(place / f"large-{i}.png", compress_level=1)
    shutil.rmtree(place / "large")
    (place / "slow").mkdir()
    for i in range(600):
        (place / f"slow/{i:04}.png").symlink_to(place / f"large-{i % 4}.png")
    for turn, (number, group) in enumerate(
        [
            (signal.SIGINT, False),
            (signal.SIGINT, True),
            (signal.SIGTERM, True),
            (signal.SIGHUP, True),
            (signal.SIGKILL, False),
        ]
    ):
        yield _while_decoding(place, number, group, place / f"c{turn}")


def _while_decoding(place: Path, number: signal.Signals, group: bool, cache: Path) -> Check:
    line = ["train", *FOLDER, "data.root=slow", "data.size=64", "folder=i"]
    command = Command(place, *line, OAKLEAF_CACHE=str(cache), OAKLEAF_CORES="2")
    command.until(lambda: [*cache.glob("making-*/entry/images.npy")]).send(number, group)
    ended = command.ended()
    case = f"{number.name} to {'the group' if group else 'one process'} while decoding"
    if number == signal.SIGKILL:
        return Check(case, f"{len(ended.left)} processes are left" if ended.left else "")
    text = faults(ended, CODES[number], f"stopped by {number.name}")
    return Check(case, joined(text, none_left(place / "i"), no_partial_files(cache)))


def other_commands(place: Path) -> Iterator[Check]:
    """F3: the same in the other commands, and in a sweep."""
    import zipfile

    run(place, "train", *DIGITS, "folder=rt")
    fill(place / "pictures", 2)
    outputs = {"sample": "samples", "evaluate": "rt/metrics.json", "export": "export", "translate": "translated"}
    for (number, code), (name, out) in zip(CODES.items(), outputs.items()):
        more = ["input=pictures"] if name == "translate" else []
        trap = partial(signal_at, zipfile, "ZipFile", number)  # a checkpoint is one
        text = faults(run(place, name, "checkpoint=rt", *more, trap=trap), code, f"stopped by {number.name}")
        yield Check(f"{name}.py, reading its checkpoint", joined(text, none_left(place / out)))
    yield Check("sample.py, between two batches", _in_sampling(place))


def _in_sampling(place: Path) -> str:
    from oakleaf.sampling.files import Npy

    trap = partial(signal_at, Npy, "add", signal.SIGINT, call=3)
    ended = run(place, "sample", "checkpoint=rt", "count=4000", "out=many", trap=trap)
    return joined(
        faults(ended, 130, "stopped by SIGINT"), no_partial_files(place), none_left(place / "many/samples.npy")
    )


def first_second(place: Path) -> Iterator[Check]:
    """F3: a signal in the first second of a command, in a process that has imported nothing yet."""
    import subprocess
    import sys
    import time

    from helpers.composing import ROOT

    for number in (signal.SIGINT, signal.SIGTERM):
        line = [sys.executable, str(ROOT / "train.py"), *DIGITS, "folder=early"]
        process = subprocess.Popen(line, cwd=place, stderr=subprocess.PIPE, text=True)
        time.sleep(1.2)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        right = process.returncode == CODES[number] and len(err.splitlines()) == 1
        text = "" if right else f"code {process.returncode}: {err[-300:]}"
        yield Check(f"{number.name} in the first second", joined(text, none_left(place / "early")))


PARTS = {
    "F1": [two_processes],
    "F3": [signals, other_signals, decoding, other_commands, first_second],
}

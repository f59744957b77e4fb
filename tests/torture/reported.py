"""The faults that users of other tools have reported, and cases like them, each tried from end to end.

python tests/torture/reported.py [REPORT ...]

Prints one line for each case, and a table. REPORT is F1, F3 to F17 or M1 to M6 (features that are asked for elsewhere);
without any, all are tried.
"""

import gc
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from helpers.commands import quick
from torture.reports import command_lines, data_sets, outputs, processes
from torture.reports.pictures import tree
from torture.reports.running import DIGITS, FOLDER, Check, end_all

Part = Callable[[Path], Iterator[Check]]
WHAT = {
    "F1": "two processes in one run",
    "F3": "signals in every phase",
    "F4": "bytes read at the second start",
    "F5": "ranges of values",
    "F6": "classes and splits from folders",
    "F7": "files that are passed over",
    "F8": "callbacks that read a metric",
    "F9": "variables of W&B",
    "F10": "resuming on other data",
    "F11": "hydra.job.chdir",
    "F12": "sentences for errors before composing",
    "F13": "Lightning's own messages",
    "F14": "colours among grey pictures",
    "F15": "backslashes and other characters in paths",
    "F16": "many samples",
    "F17": "Python instead of the command line",
    "M1": "samples as PNG files",
    "M2": "pictures against pictures",
    "M3": "a new run from old weights",
    "M4": "labels from tables, ZIP archives",
    "M5": "films, truncation, lists of seeds",
    "M6": "augmentation, accumulation, balance, opacity",
}


def parts() -> dict[str, list[Part]]:
    """The functions that try each report's cases."""
    return {**processes.PARTS, **data_sets.PARTS, **command_lines.PARTS, **outputs.PARTS}


def tried(part: Part, place: Path) -> Iterator[Check]:
    """Yield the cases of a part; an error of the part itself is a fault."""
    place.mkdir(parents=True)
    try:
        yield from part(place)
    except Exception as error:
        yield Check(part.__name__, f"the script failed: {error!r}")
    finally:
        end_all()


def warm_up(place: Path) -> None:
    """Import in this process what every command needs, so that its copies need not, nor copy the objects' pages."""
    import oakleaf.cli.evaluate
    import oakleaf.cli.export
    import oakleaf.cli.sample
    import oakleaf.cli.translate  # noqa: F401

    place.mkdir()
    tree(place / "set", {"cat": 6, "dog": 6})
    for line in ([*DIGITS, "folder=a"], [*FOLDER, "model=acgan", "data.root=set", "folder=b"]):
        assert quick("train", *line, folder=place).returncode == 0
    line = ["checkpoint=b", "metric=diversity", "extractor=pixels", "fake=12", "baseline=false", "resamples=0"]
    assert quick("evaluate", *line, folder=place).returncode == 0
    gc.collect()
    gc.freeze()
    torch.set_num_threads(1)


def main(*chosen: str) -> int:
    os.environ.update(WANDB_MODE="offline", OMP_NUM_THREADS="1")
    counts: dict[str, list[int]] = {}
    place = Path(tempfile.mkdtemp())  # a TemporaryDirectory would be removed by each forked process too
    try:
        os.environ["OAKLEAF_CACHE"] = str(place / "cache")
        warm_up(place / "warm")
        by_report = parts()
        for report in chosen or WHAT:
            began, counts[report] = time.monotonic(), [0, 0, 0]
            for number, part in enumerate(by_report.get(report, [])):
                for check in tried(part, place / report / str(number)):
                    counts[report][0] += 1
                    counts[report][1] += bool(check.fault)
                    print(f"{report}, {check.case}: {check.fault or 'ok'}", flush=True)
            counts[report][2] = round(time.monotonic() - began)
    finally:
        shutil.rmtree(place)
    print("\n| report | about | cases | wrong | seconds |\n|---|---|---|---|---|")
    for report, (cases, wrong, seconds) in counts.items():
        print(f"| {report} | {WHAT[report]} | {cases} | {wrong} | {seconds} |")
    total, wrong = (sum(count[i] for count in counts.values()) for i in (0, 1))
    used = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"{total} cases, {wrong} wrong; {used:.0f} s of one core")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

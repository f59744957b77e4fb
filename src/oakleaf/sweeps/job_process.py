"""What a job's own process does: train as `python train.py` would, then measure as `python evaluate.py` would."""

import contextlib
import io
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from oakleaf.cli import evaluate, train
from oakleaf.runtime.run_dir import LAST
from oakleaf.sweeps.job_runner import TRIAL
from oakleaf.sweeps.job_state import END, SCORE, checkpoint, scores, write
from oakleaf.sweeps.names import quoted
from oakleaf.sweeps.status import images_of


def main() -> None:
    task = json.loads(os.environ[TRIAL])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if task["train"]:
        train.main()
    if int(os.environ.get("LOCAL_RANK", 0)) > 0:  # another of the job's processes measures
        return
    folder = Path(task["folder"])
    if task["train"]:
        write(folder / END, {"images": _images(folder), "overrides": task["overrides"]})
    _leave_group()
    _measure(folder, task["evaluate"])


def _end_with_parent() -> None:
    """Stop as if told to when whoever started this process is gone, even if it was killed."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _images(folder: Path) -> int:
    from oakleaf.runtime.checkpoint_io import read_checkpoint

    return int(read_checkpoint(folder / LAST)["images_seen"]) if (folder / LAST).is_file() else images_of(folder)


def _leave_group() -> None:
    """The job's other processes end with the training."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _measure(folder: Path, overrides: list[str]) -> None:
    from hydra.core.global_hydra import GlobalHydra

    (folder / SCORE).unlink(missing_ok=True)
    found: Any = checkpoint(folder)
    if found is None:
        sys.exit("no checkpoint was saved, so there is nothing to measure")
    place = f"checkpoint={quoted(found)}", f"out={quoted(folder / SCORE.parent)}"
    sys.argv = ["evaluate.py", *place, *overrides]
    GlobalHydra.instance().clear()
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            evaluate.main()
    finally:
        print(said.getvalue(), end="", flush=True)
        if not (folder / SCORE).is_file() or not scores(folder)[0]:
            print(" ".join(said.getvalue().split()), file=sys.stderr)  # why: the job's record will have it


if __name__ == "__main__":
    main()

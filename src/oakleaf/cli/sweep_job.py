"""The process of one job: trains like `python train.py`, then evaluates like `python evaluate.py`.

`oakleaf.sweeps.job_runner` starts it. Its command line is that of train.py; the environment variable OAKLEAF_JOB says
what else to do. The further processes of a job with several devices are started by Lightning with the same command
line and environment: they train with rank 0, and rank 0 alone evaluates.
"""

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
from oakleaf.cli.commands import run
from oakleaf.config.overrides import quote
from oakleaf.runtime.run_dir import LAST
from oakleaf.sweeps.job_runner import JOB_VARIABLE
from oakleaf.sweeps.job_state import END, SCORES, best_checkpoint, images_seen, read_scores, write_json


def main() -> None:
    """Train and evaluate the job that OAKLEAF_JOB describes."""
    task = json.loads(os.environ[JOB_VARIABLE])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if task["train"]:
        train.main()
    if int(os.environ.get("LOCAL_RANK", 0)) > 0:
        return
    folder = Path(task["folder"])
    if task["train"]:
        write_json(folder / END, {"images": _trained_images(folder), "overrides": task["overrides"]})
    _leave_process_group()
    _evaluate(folder, task["evaluate"])


def _end_with_parent() -> None:
    """Terminate this process, as SIGTERM does, when the process that has started it ends.

    Standard input is a pipe to that process. Nothing is written to it, so reading returns when the pipe is closed.
    """
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _trained_images(folder: Path) -> int:
    from oakleaf.runtime.checkpoint_io import read_checkpoint

    return int(read_checkpoint(folder / LAST)["images_seen"]) if (folder / LAST).is_file() else images_seen(folder)


def _leave_process_group() -> None:
    """Leave torch's process group, since the other processes have ended with the training."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _evaluate(folder: Path, overrides: list[str]) -> None:
    """Run evaluate.py in this process. If it yields no score, its output goes to stderr, which the runner records."""
    from hydra.core.global_hydra import GlobalHydra

    (folder / SCORES).unlink(missing_ok=True)
    checkpoint: Any = best_checkpoint(folder)
    if checkpoint is None:
        sys.exit("no checkpoint was saved, so there is nothing to evaluate")
    paths = f"checkpoint={quote(checkpoint)}", f"out={quote(folder / SCORES.parent)}"
    sys.argv = ["evaluate.py", *paths, *overrides]
    GlobalHydra.instance().clear()
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            evaluate.main()
    finally:
        print(output.getvalue(), end="", flush=True)
        if not (folder / SCORES).is_file() or not read_scores(folder)[0]:
            print(" ".join(output.getvalue().split()), file=sys.stderr)


if __name__ == "__main__":
    run("sweep_job")

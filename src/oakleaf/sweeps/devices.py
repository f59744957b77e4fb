"""One GPU for a job that needs one, where there are several."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from oakleaf.sweeps.job_state import locked

VISIBLE = "CUDA_VISIBLE_DEVICES"


@contextmanager
def reserve_gpus(trainer: Any) -> Iterator[dict[str, str]]:
    """What to add to a job's environment so that it sees as many GPUs as it asks for, none of which another job of
    this user's has on this machine. Where none is free, jobs share; a job that takes what there is gets all.
    """
    there, wanted = gpus(), trainer.devices
    if trainer.accelerator == "cpu" or not isinstance(wanted, int) or not 0 < wanted < len(there):
        yield {}
        return
    with ExitStack() as held:
        mine: list[str] = []
        for gpu in there:
            if len(mine) < wanted and held.enter_context(locked(_place() / gpu)) is not None:
                mine.append(gpu)
        busy = [gpu for gpu in there if gpu not in mine]
        yield {VISIBLE: ",".join([*mine, *busy][:wanted])}


def gpus() -> list[str]:
    """The GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES knows. Torch is not asked: it takes
    seconds, and would hold a context."""
    visible = os.environ.get(VISIBLE)
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    return [str(number) for number, line in enumerate(li for li in listed.splitlines() if li.startswith("GPU "))]


def parallel_jobs() -> int:
    """How many jobs of one device this machine runs side by side: one on each GPU, or on each pair of cores."""
    return len(gpus()) or max(1, (os.cpu_count() or 2) // 2)


def _place() -> Path:
    return Path(tempfile.gettempdir()) / f"oakleaf-gpus-{os.getuid()}"

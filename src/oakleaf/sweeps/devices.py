"""GPUs of a sweep's jobs: each job gets its own where there are enough."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from oakleaf.runtime.locks import file_lock
from oakleaf.runtime.threads import available_cores

VISIBLE = "CUDA_VISIBLE_DEVICES"


@contextmanager
def reserve_gpus(trainer: Any) -> Iterator[dict[str, str]]:
    """Reserve GPUs for one job by file locks in the temporary folder, as long as the block runs.

    The job gets GPUs that no other job of this user on this machine has. If fewer are free than it needs, it shares the
    rest. A job that uses all GPUs, or none, reserves nothing.

    Args:
        trainer: the job's `trainer` configuration (`accelerator`, `devices`).

    Yields:
        Variables for the job's environment: CUDA_VISIBLE_DEVICES, or nothing.
    """
    available, count = visible_gpus(), trainer.devices
    if trainer.accelerator == "cpu" or not isinstance(count, int) or not 0 < count < len(available):
        yield {}
        return
    locks = Path(tempfile.gettempdir()) / f"oakleaf-gpus-{os.getuid()}"
    with ExitStack() as stack:
        reserved: list[str] = []
        for gpu in available:
            if len(reserved) < count and stack.enter_context(file_lock(locks / gpu)) is not None:
                reserved.append(gpu)
        busy = [gpu for gpu in available if gpu not in reserved]
        yield {VISIBLE: ",".join([*reserved, *busy][:count])}


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, by their names in CUDA_VISIBLE_DEVICES.

    `torch.cuda` would answer the same, but importing torch takes seconds, and a CUDA context takes memory of the GPU.
    """
    visible = os.environ.get(VISIBLE)
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    return [str(i) for i, _ in enumerate(line for line in listed.splitlines() if line.startswith("GPU "))]


def parallel_jobs() -> int:
    """Return how many jobs of one device to run at once: one for each GPU; without GPUs one for each two CPU cores."""
    return len(visible_gpus()) or max(1, available_cores() // 2)

"""Where the numbers of a run are from: `run.json` has its commands, commit, versions and machine, time and memory."""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from oakleaf.runtime.run_dir import RUN, atomic_write, redact_home
from oakleaf.runtime.version import VERSION

PACKAGES = ("torch", "torchvision", "lightning", "numpy")
SOURCE = Path(__file__).resolve().parents[1]  # the package's folder
CPU_INFO = Path("/proc/cpuinfo")

Session = dict[str, Any]


def new_session(command: str) -> Session:
    """Describe a process that begins or resumes a run.

    Args:
        command: its command line.

    Returns:
        What is known at its start; `Report` adds how far it has come.
    """
    session = {
        "command": command,
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "commit": commit(),
        "versions": versions(),
        "machine": machine(),
    }
    return redact_home(session)  # type: ignore[no-any-return]


def read_sessions(folder: Path) -> list[Session]:
    """Return the sessions of `run.json`, the first one first; [] if the file is missing or damaged."""
    try:
        sessions = json.loads((folder / RUN).read_text())["sessions"]
        return [dict(session) for session in sessions]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def write_sessions(folder: Path, sessions: list[Session]) -> None:
    """Write `run.json`."""
    with atomic_write(folder / RUN) as part:
        part.write_text(json.dumps({"sessions": sessions}, indent=1) + "\n")


def commit() -> str:
    """Return the Git commit of Oakleaf's source, with "and changes" if files differ; "" outside of a checkout."""
    try:
        found = _git("rev-parse", "--short=12", "HEAD")
        top = _git("rev-parse", "--show-toplevel")
        if not found or not (Path(top) / "conf" / "train.yaml").is_file():  # another project has it as a dependency
            return ""
        return f"{found} and changes" if _git("status", "--porcelain", "--untracked-files=no") else found
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(SOURCE), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()


def versions() -> dict[str, str]:
    """Return the versions of Oakleaf, Python and the packages that compute."""
    found = {"oakleaf": VERSION, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str]:
    """Return the processor, cores, memory, GPUs and operating system; not the machine's name."""
    import torch

    from oakleaf.runtime.memory import total_bytes

    gpus = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": f"{total_bytes() / 2**30:.1f} GiB",
        "GPUs": ", ".join(gpus) or "none",
        "system": f"{platform.system()} {platform.release()}",
    }


def _processor() -> str:
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def peak_memory() -> dict[str, int]:
    """Return the largest memory in bytes that this process has used so far: `process`, and `GPU` if it has used one."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        peak["GPU"] = max(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count()))
    return peak

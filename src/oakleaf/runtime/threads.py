"""How many threads torch uses on the CPU, and how they wait for each other.

torch's wheels use GNU's OpenMP (libgomp). It reads its environment variables once, when torch is imported, so
`configure` is called when `oakleaf` is imported, and `oakleaf` has to be imported before torch.

How threads wait. After each operation, the threads wait for the slowest of them. By default they spin for about 3 ms
before they sleep. Where another process uses one of the cores, the slowest thread has none, and those that spin keep
the others from it: training then takes ten times as long as with one thread (docs/performance.md). With
OMP_WAIT_POLICY=PASSIVE they sleep at once.

How many threads. As many as the cores that this process may use (`available_cores`), in equal parts if several
processes of a run or jobs of a sweep share them. The number depends on the machine and the configuration only, never on
the load, because sums of another number of threads differ in their last bits.

What the user has set in the environment (OMP_NUM_THREADS, MKL_NUM_THREADS, OMP_WAIT_POLICY, GOMP_SPINCOUNT) is kept.
"""

import os
import sys
from pathlib import Path

CORES = "OAKLEAF_CORES"  # at most so many cores for this process and its own; a sweep divides the cores by it
OWN_THREADS = "OAKLEAF_THREADS"  # OMP_NUM_THREADS as Oakleaf has set it, to tell it from the user's
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
CGROUPS = Path("/sys/fs/cgroup")

_torch_was_first = False


def configure() -> None:
    """Set the environment variables that torch reads when it is imported, and keep those of the user."""
    global _torch_was_first
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # child processes read it in any case
        _torch_was_first = "torch" in sys.modules
    if requested_threads() is None:
        os.environ["OMP_NUM_THREADS"] = os.environ[OWN_THREADS] = str(available_cores())


def spinning() -> bool:
    """Return whether torch's threads spin because torch was imported before `configure` was called."""
    return _torch_was_first


def requested_threads() -> int | None:
    """Return the number of threads that the user has set in the environment; None if it is left to Oakleaf."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        value = os.environ.get(name, "")
        if value.split(",")[0].isdigit() and (name != "OMP_NUM_THREADS" or value != os.environ.get(OWN_THREADS)):
            return int(value.split(",")[0])
    return None


def set_threads(threads: int | None, processes: int = 1) -> int:
    """Set the number of torch's threads in this process.

    Args:
        threads: the number; None: that of the environment, else the cores divided by `processes`.
        processes: processes of this run on this machine.

    Returns:
        The number.
    """
    import torch

    count = threads or requested_threads() or max(1, available_cores() // processes)
    if count != torch.get_num_threads():
        torch.set_num_threads(count)
    return count


def available_cores() -> int:
    """Return how many cores this process may use: by its affinity, its cgroups' quotas, and OAKLEAF_CORES."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    own = os.environ.get(CORES, "")
    limits = [int(own)] if own.isdigit() and int(own) > 0 else []
    quota = cgroup_quota()
    return max(1, min([affinity, *limits, *([int(quota)] if quota else [])]))


def cgroup_quota(root: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> float | None:
    """Return the smallest quota of the cgroups that this process is in, in cores; None without a quota.

    Args:
        root: where the cgroup file system is mounted.
        own: the file that lists this process's cgroups, `hierarchy:controllers:path` in each line.

    Reference: Linux, Documentation/admin-guide/cgroup-v2.rst (`cpu.max`) and scheduler/sched-bwc.rst (version 1).
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    quotas = []
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controllers and "cpu" not in controllers.split(","):
            continue
        hierarchy = root / controllers if controllers else root  # version 1 mounts each controller by its name
        place = hierarchy / path.strip("/")
        for folder in (place, *place.parents):
            if not folder.is_relative_to(hierarchy):
                break
            quotas += _quota(folder)
    return min(quotas, default=None)


def _quota(folder: Path) -> list[float]:
    """Return [quota in cores] of one cgroup, [] without a quota."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return [int(quota) / int(period)] if quota not in ("max", "-1") else []
    except (OSError, ValueError, ZeroDivisionError):
        return []

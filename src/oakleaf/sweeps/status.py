"""How far a sweep is: `python train.py sweep.status=FOLDER`."""

from collections import Counter
from pathlib import Path

from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import LAST
from oakleaf.sweeps.job_state import SWEEP, Job, planned_jobs, read_job


def jobs_of(folder: Path) -> list[Job]:
    """All jobs of the sweep's last command, as they stand.

    Raises:
        UserError: no sweep's folder, or its record is damaged.
    """
    if not (folder / SWEEP).is_file():
        raise UserError(f"sweep.status={folder}: no sweep was begun there; its folder is below outputs/sweeps")
    planned = planned_jobs(folder)
    if planned is None:
        raise UserError(f"sweep.status={folder}: {SWEEP} is damaged; the sweep's command, given again, writes it anew")
    return [read_job(folder / job.name, job) or job for job in planned]


def status(folder: Path) -> str:
    """A line for each job, and how many there are of each state."""
    jobs = jobs_of(folder)
    width = max((len(job.name) for job in jobs), default=0)
    lines = [f"{job.name:{width}s}  {job.state:8s}{_seen(folder, job)}{_said(job)}" for job in jobs]
    counts = Counter(job.state for job in jobs)
    return "\n".join([*lines, ", ".join(f"{count} {state}" for state, count in counts.items())])


def images_of(folder: Path) -> int:
    """How many images a run has seen, as its metrics.csv tells."""
    try:
        last = (folder / "metrics.csv").read_text().splitlines()[-1].split(",")[0]
    except (OSError, IndexError):
        return 0
    return int(last) if last.isdigit() else 0


def _seen(folder: Path, job: Job) -> str:
    seen = job.images if job.state == "done" else images_of(folder / job.name)
    begun = seen or (folder / job.name / LAST).is_file()
    return f"  {seen:>11,} images" if begun else ""


def _said(job: Job) -> str:
    scores = ", ".join(f"{name} {value:.4g}" for name, value in job.scores.items())
    return "".join(f"  {words}" for words in (scores, job.reason) if words)

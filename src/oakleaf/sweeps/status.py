"""How far a sweep is: `python train.py sweep.status=FOLDER`."""

from collections import Counter
from pathlib import Path

from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import LAST
from oakleaf.sweeps.job_state import SWEEP, Job, images_seen, sweep_jobs


def jobs_of(folder: Path) -> list[Job]:
    """Return all jobs of a sweep's last command as they are now.

    Raises:
        UserError: the folder is not that of a sweep, or its record is damaged.
    """
    if not (folder / SWEEP).is_file():
        raise UserError(f"sweep.status={folder}: there is no sweep; sweeps are in folders below outputs/sweeps")
    if (jobs := sweep_jobs(folder)) is None:
        raise UserError(f"sweep.status={folder}: {SWEEP} is damaged; run the sweep's command again to write it anew")
    return jobs


def status(folder: Path) -> str:
    """Return a line for each job, and a last line with the number of jobs in each state.

    Raises:
        UserError: the folder is not that of a sweep, or its record is damaged.
    """
    jobs = jobs_of(folder)
    width = max((len(job.name) for job in jobs), default=0)
    lines = [f"{job.name:{width}s}  {job.state:8s}{_progress(folder, job)}{_result(job)}" for job in jobs]
    counts = Counter(job.state for job in jobs)
    return "\n".join([*lines, ", ".join(f"{count} {state}" for state, count in counts.items())])


def _progress(folder: Path, job: Job) -> str:
    images = job.images if job.state == "done" else images_seen(folder / job.name)
    has_started = images or (folder / job.name / LAST).is_file()
    return f"  {images:>11,} images" if has_started else ""


def _result(job: Job) -> str:
    scores = ", ".join(f"{name} {value:.4g}" for name, value in job.scores.items())
    return "".join(f"  {text}" for text in (scores, job.reason) if text)

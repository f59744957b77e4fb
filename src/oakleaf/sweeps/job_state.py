"""The files by which a sweep knows how far it is: `sweep.json` in its folder, and `job.json` in the folder of each job.

Only one process writes each file at a time: the sweeper before it launches jobs, a job's runner while it holds the
job's lock.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from oakleaf.errors import UserError
from oakleaf.runtime.locks import is_locked
from oakleaf.runtime.run_dir import BEST, LAST, atomic_write, canonical_overrides

SWEEP = "sweep.json"  # the command, the settings of the evaluation and the planned jobs
# in a job's folder:
JOB = "job.json"
LOCK = "lock"
STOP = "stop"  # exists if the job is to be pruned; its text is the reason
END = "end.json"  # exists if the training has reached its end, with the overrides that said where that is
SCORES = Path("score") / "metrics.json"


@dataclass
class Job:
    """One run of a sweep and how far it is.

    Attributes:
        name: the job's name, and that of its folder.
        overrides: all overrides of the run.
        swept: those among them that distinguish it from the sweep's other jobs.
        state: waiting, running, stopped (it will be continued), done, failed or pruned.
        reason: why it has failed or was stopped; empty otherwise.
        seconds: wall time of its processes, start-up included.
        started: when the current attempt started, in seconds since 1970; 0 if none is running.
        images: images seen.
        attempts: how many times it was started.
        scores: what the evaluation at its end has yielded, by name.
        better: by score, whether lower or higher is better.
        evaluated: how it was evaluated, as overrides for evaluate.py.
    """

    name: str
    overrides: list[str]
    swept: list[str]
    state: str = "waiting"
    reason: str = ""
    seconds: float = 0.0
    started: float = 0.0
    images: int = 0
    attempts: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    better: dict[str, str] = field(default_factory=dict)
    evaluated: list[str] = field(default_factory=list)

    def is_done(self, evaluation: list[str]) -> bool:
        """Tell whether it is trained, and evaluated in this way."""
        return self.state == "done" and self.evaluated == evaluation

    def score(self, score_name: str) -> tuple[str, float] | None:
        """Return (name, value) of a score by its name, with or without its extractor: `fid` is `fid-classifier` too."""
        matches = (pair for pair in self.scores.items() if is_score(pair[0], score_name))
        return next(matches, None)


def is_score(full_name: str, score_name: str) -> bool:
    """Tell whether `score_name` is a score's full name (`fid-classifier`) or that without its extractor (`fid`)."""
    return full_name == score_name or full_name.startswith(f"{score_name}-")


def read_job(folder: Path) -> Job | None:
    """Return the job of a folder; None if it has no readable `job.json`.

    A job whose state is running but whose lock is free was killed: it is returned as stopped.
    """
    job = _parse_job(read_json(folder / JOB))
    if job and job.state == "running" and not is_locked(folder / LOCK):
        job.state, job.reason = "stopped", "its process was killed"
    return job


def current_job(folder: Path, planned: Job) -> Job:
    """Return how far a planned job is.

    Args:
        folder: the job's folder.
        planned: the job as the current command describes it.

    Returns:
        The job of `job.json`, or the planned one if there is none. If only the run's length has changed, a finished
        job is returned as stopped, so that it is continued.

    Raises:
        UserError: the folder belongs to a run with other overrides.
    """
    job = read_job(folder)
    if job is None:
        return replace(planned, reason=f"its {JOB} is damaged") if (folder / JOB).is_file() else planned
    if canonical_overrides(job.overrides) != canonical_overrides(planned.overrides):
        raise UserError(f"{folder} holds a run with other overrides; choose another folder: hydra.sweep.dir=FOLDER")
    if sorted(job.overrides) != sorted(planned.overrides):
        return replace(job, overrides=planned.overrides, evaluated=[], state="stopped", reason="")
    return job


def sweep_jobs(folder: Path) -> list[Job] | None:
    """Return the jobs of the sweep's last command as they are now; None if `sweep.json` is missing or damaged."""
    records = (read_json(folder / SWEEP) or {}).get("jobs")
    planned = [_parse_job(record) for record in records] if isinstance(records, list) else [None]
    return [current_job(folder / job.name, job) for job in planned if job] if all(planned) else None


def _parse_job(content: Any) -> Job | None:
    try:
        return TypeAdapter(Job).validate_python(content)
    except ValidationError:
        return None


def write_job(folder: Path, job: Job) -> None:
    """Write `job.json`."""
    write_json(folder / JOB, asdict(job))


def images_at_end(folder: Path, job: Job) -> int | None:
    """Return the images seen at the end of the training; None if it has not reached the end that the overrides set."""
    end = read_json(folder / END) or {}
    return end["images"] if end.get("overrides") == job.overrides else None


def read_scores(folder: Path) -> tuple[dict[str, float], dict[str, str]]:
    """Return a job's scores, and by score which direction is better; scores that are not finite are left out."""
    try:
        scores = json.loads((folder / SCORES).read_text())
    except (OSError, ValueError):
        return {}, {}
    finite = [score for score in scores if isfinite(score["value"])]
    return {s["name"]: s["value"] for s in finite}, {s["name"]: s["better"] for s in finite}


def best_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint by which a job is evaluated: the best one if it was kept, else the last."""
    return next((folder / file for file in (BEST, LAST) if (folder / file).is_file()), None)


def images_seen(folder: Path) -> int:
    """Return how many images a run has seen by the last row of its metrics.csv; 0 if it has none."""
    try:
        images = (folder / "metrics.csv").read_text().splitlines()[-1].split(",")[0]
    except (OSError, IndexError):
        return 0
    return int(images) if images.isdigit() else 0


def read_json(file: Path) -> dict[str, Any] | None:
    """Return the object of a JSON file; None if the file is missing or damaged."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically, and create its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")

"""What is written down of a sweep: `sweep.json` in its folder, and `job.json` in each job's."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import BEST, LAST, atomic_write, canonical_overrides

SWEEP, JOB, LOCK, STOP, END = "sweep.json", "job.json", "lock", "stop", "end.json"
SCORE = Path("score") / "metrics.json"


@dataclass
class Job:
    """One run of a sweep, as it stands.

    state: waiting, running, stopped (half-done, will go on), done, failed, pruned. seconds: its processes' wall time,
    start-up included; started: when the attempt began that is not counted yet, in seconds since 1970. scores: what was
    measured at its end, and `better` which way is better; evaluated: how.
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

    def score(self, measure: str) -> tuple[str, float] | None:
        """The number called so, with or without its extractor: `fid` is `fid-classifier` too."""
        found = (pair for pair in self.scores.items() if pair[0] == measure or pair[0].startswith(f"{measure}-"))
        return next(found, None)


def read_job(folder: Path, planned: Job | None = None) -> Job | None:
    """What the folder knows of the job; of one that did not begin, what is planned.

    Raises:
        UserError: another job was run there.
    """
    found = _job(read(folder / JOB))
    if found is None:
        if planned and (folder / JOB).is_file():
            return replace(planned, reason=f"its {JOB} is damaged")
        return planned
    if planned and canonical_overrides(found.overrides) != canonical_overrides(planned.overrides):
        raise UserError(f"{folder} holds a run of other overrides; name another folder: hydra.sweep.dir=FOLDER")
    if planned and sorted(found.overrides) != sorted(planned.overrides):  # the same run, longer
        found.overrides, found.evaluated = planned.overrides, []
        found.state, found.reason = "stopped", ""
    if found.state == "running" and not is_locked(folder):
        found.state, found.reason = "stopped", "its process was killed"
    return found


def planned_jobs(folder: Path) -> list[Job] | None:
    """Those of the sweep's last command; None where its record is not there or damaged."""
    listed = (read(folder / SWEEP) or {}).get("jobs")
    jobs = [_job(one) for one in listed] if isinstance(listed, list) else [None]
    return [job for job in jobs if job] if all(jobs) else None


def _job(content: Any) -> Job | None:
    """None of what is no job's record."""
    try:
        return TypeAdapter(Job).validate_python(content)
    except ValidationError:
        return None


def has_ended(folder: Path, job: Job) -> bool:
    """Whether its training came to the end that the job has now."""
    return (read(folder / END) or {}).get("overrides") == job.overrides


def scores(folder: Path) -> tuple[dict[str, float], dict[str, str]]:
    """What was measured at the job's end, and which way is better; without what is no number."""
    try:
        found = json.loads((folder / SCORE).read_text())
    except (OSError, ValueError):
        return {}, {}
    sound = [score for score in found if isfinite(score["value"])]
    return {s["name"]: s["value"] for s in sound}, {s["name"]: s["better"] for s in sound}


def write_job(folder: Path, job: Job) -> None:
    write(folder / JOB, asdict(job))


def checkpoint(folder: Path) -> Path | None:
    """The one that a job is worth: its best, or its last."""
    return next((folder / place for place in (BEST, LAST) if (folder / place).is_file()), None)


def read(file: Path) -> dict[str, Any] | None:
    """A file's content; None if it is not there or damaged."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write(file: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as part:
        part.write_text(json.dumps(content, indent=1) + "\n")


@contextmanager
def locked(file: Path) -> Iterator[int | None]:
    """Holds a lock as long as this process, and those that are handed the descriptor, live; None if others hold it."""
    import fcntl

    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
            return
        yield handle.fileno()


def is_locked(folder: Path) -> bool:
    """Whether a process runs the job now, on this machine or, where the file system tells, on another."""
    if not (folder / LOCK).is_file():
        return False
    with locked(folder / LOCK) as mine:
        return mine is None

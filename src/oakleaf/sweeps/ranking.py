"""Which combination is best: jobs that differ by their seed alone are one, ranked by the mean of their measure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from oakleaf.sweeps.job_state import Job
from oakleaf.sweeps.names import without_seed


@dataclass
class Combination:
    """swept: what its jobs share. jobs: its repetitions. name: the number that it is ranked by, None where none was
    measured; values: that number of each job that has it."""

    swept: tuple[str, ...]
    jobs: list[Job]
    name: str | None
    values: list[float]
    best: Job | None

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def sd(self) -> float | None:
        """Of a sample; None of a single value."""
        return stdev(self.values) if len(self.values) > 1 else None

    def cost(self) -> tuple[float, float]:
        """Seconds and images of a job, in the mean over those that saw any."""
        ran = [job for job in self.jobs if job.images] or self.jobs
        return fmean(job.seconds for job in ran), fmean(job.images for job in ran)


def ranked(jobs: Sequence[Job], measure: str) -> list[Combination]:
    """The best first; those without a number last, in the order of the command."""
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(without_seed(job.swept), []).append(job)
    combinations = [_combined(swept, group, measure) for swept, group in groups.items()]
    lower = is_lower_better(jobs, measure)
    with_number = [one for one in combinations if one.values]
    without = [one for one in combinations if not one.values]
    return sorted(with_number, key=lambda one: one.mean, reverse=not lower) + without


def is_lower_better(jobs: Sequence[Job], measure: str) -> bool:
    found = (job.better[score[0]] for job in jobs if (score := job.score(measure)))
    return next(found, "lower") != "higher"


def _combined(swept: tuple[str, ...], jobs: list[Job], measure: str) -> Combination:
    found = [(score, job) for job in jobs if job.state == "done" and (score := job.score(measure))]
    pick = min if is_lower_better(jobs, measure) else max
    best = pick(found, key=lambda pair: pair[0][1])[1] if found else None
    name = found[0][0][0] if found else None
    return Combination(swept, jobs, name, [score[1] for score, _ in found], best)

"""The ranking of a sweep: jobs that differ by their seed alone are one combination, ranked by its mean score."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from oakleaf.sweeps.job_state import Job
from oakleaf.sweeps.names import without_seed


@dataclass
class Combination:
    """Jobs that differ by their seed alone.

    Attributes:
        swept: the swept overrides that they have in common.
        jobs: its jobs, one for each seed.
        score_name: full name of the score that ranks; None if no job has it.
        values: that score of each job that has it.
        best: the job with the best score; None if no job has one.
    """

    swept: tuple[str, ...]
    jobs: list[Job]
    score_name: str | None
    values: list[float]
    best: Job | None

    @property
    def mean(self) -> float:
        """Mean of the score."""
        return fmean(self.values)

    @property
    def sd(self) -> float | None:
        """Standard deviation of the score (with n - 1); None of a single value."""
        return stdev(self.values) if len(self.values) > 1 else None

    def cost(self) -> tuple[float, float]:
        """Return seconds and images of a job: means over the jobs that have seen images."""
        started = [job for job in self.jobs if job.images] or self.jobs
        return fmean(job.seconds for job in started), fmean(job.images for job in started)


def rank(jobs: Sequence[Job], score_name: str) -> list[Combination]:
    """Group jobs into combinations and rank them.

    Args:
        jobs: all jobs of the sweep, in the order of the command.
        score_name: name of the score that ranks, with or without its extractor.

    Returns:
        The combinations, the best one first; those without a score last, in the order of the command.
    """
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(without_seed(job.swept), []).append(job)
    lower = is_lower_better(jobs, score_name)
    combinations = [_combine(swept, group, score_name, lower) for swept, group in groups.items()]
    with_score = [combination for combination in combinations if combination.values]
    without = [combination for combination in combinations if not combination.values]
    return sorted(with_score, key=lambda combination: combination.mean, reverse=not lower) + without


def is_lower_better(jobs: Sequence[Job], score_name: str) -> bool:
    """Tell whether a lower score is better, as the evaluation has recorded it; True if no job has the score."""
    directions = (job.better[score[0]] for job in jobs if (score := job.score(score_name)))
    return next(directions, "lower") != "higher"


def _combine(swept: tuple[str, ...], jobs: list[Job], score_name: str, lower: bool) -> Combination:
    scored = [(score, job) for job in jobs if job.state == "done" and (score := job.score(score_name))]
    best = (min if lower else max)(scored, key=lambda pair: pair[0][1])[1] if scored else None
    name = scored[0][0][0] if scored else None
    return Combination(swept, jobs, name, [score[1] for score, _ in scored], best)

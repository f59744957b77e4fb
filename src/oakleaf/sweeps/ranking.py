"""The ranking of a sweep: jobs that differ by their seed alone are one combination, ranked by its mean score.

A combination whose seeds are not all finished is ranked after those that are complete, since its mean is over other
seeds. Whether the first one is better than another is tested over the seeds that both have: runs of the same seed
share data order and initial weights, so their scores are paired.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from oakleaf.sweeps.job_state import Job
from oakleaf.sweeps.names import SEED, without_seed

SIGNIFICANCE = 0.05  # of the paired t-test, after Holm's correction


@dataclass
class Combination:
    """Jobs that differ by their seed alone.

    Attributes:
        swept: the swept overrides that they have in common.
        jobs: its jobs, one for each seed.
        score_name: full name of the score that ranks; None if no job has it.
        values: that score of each job that has it.
        best: the job with the best score; None if no job has one.
        by_seed: that score by the job's seed.
    """

    swept: tuple[str, ...]
    jobs: list[Job]
    score_name: str | None
    values: list[float]
    best: Job | None
    by_seed: dict[str, float]

    @property
    def is_complete(self) -> bool:
        """Whether each of its jobs has the score."""
        return len(self.values) == len(self.jobs)

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


@dataclass(frozen=True)
class Difference:
    """The difference of a combination's score from that of the first one, over the seeds that both have.

    Attributes:
        mean: mean difference; positive where the combination's score is larger.
        seeds: how many seeds both have.
        p: p-value of a two-sided paired t-test with Holm's correction over all combinations; None with fewer than two
            seeds.
    """

    mean: float
    seeds: int
    p: float | None

    @property
    def is_significant(self) -> bool:
        """Whether the difference is larger than chance explains."""
        return self.p is not None and self.p < SIGNIFICANCE


def rank(jobs: Sequence[Job], score_name: str) -> list[Combination]:
    """Group jobs into combinations and rank them.

    Args:
        jobs: all jobs of the sweep, in the order of the command.
        score_name: name of the score that ranks, with or without its extractor.

    Returns:
        The combinations: those of which all jobs have the score, the best one first; then those of which some have it,
        in the same order; then those without a score, in the order of the command.
    """
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(without_seed(job.swept), []).append(job)
    lower = is_lower_better(jobs, score_name)
    combinations = [_combine(swept, group, score_name, lower) for swept, group in groups.items()]
    scored = [one for one in combinations if one.values]
    scored.sort(key=lambda one: (not one.is_complete, one.mean if lower else -one.mean))
    return scored + [one for one in combinations if not one.values]


def differences(ranking: Sequence[Combination]) -> list[Difference | None]:
    """Compare each combination with the first one of the ranking.

    Args:
        ranking: from `rank`.

    Returns:
        For each combination its difference; None for the first one and for those that share no seed with it.
    """
    pairs = [_paired(ranking[0], one) if one.values and place else [] for place, one in enumerate(ranking)]
    corrected = _holm([_p_value(values) for values in pairs])
    return [
        Difference(fmean(values), len(values), p) if values else None
        for values, p in zip(pairs, corrected, strict=True)
    ]


def _paired(first: Combination, other: Combination) -> list[float]:
    """Return the differences of the scores of the seeds that both combinations have."""
    return [other.by_seed[seed] - value for seed, value in first.by_seed.items() if seed in other.by_seed]


def _p_value(values: Sequence[float]) -> float | None:
    """Return the p-value of a two-sided t-test that the mean is 0; None of fewer than two values."""
    if len(values) < 2:
        return None
    if stdev(values) == 0:
        return 1.0 if values[0] == 0 else 0.0
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(values, 0.0).pvalue)


def _holm(values: Sequence[float | None]) -> list[float | None]:
    """Return p-values with Holm's correction for their number; those that are None stay None.

    Reference: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    order = sorted((value, index) for index, value in enumerate(values) if value is not None)
    corrected: list[float | None] = [None] * len(values)
    largest = 0.0
    for place, (value, index) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - place) * value))
        corrected[index] = largest
    return corrected


def verdict(ranking: Sequence[Combination], found: Sequence[Difference | None], name: str) -> str:
    """Say in sentences how far the ranking can be trusted.

    Args:
        ranking: from `rank`.
        found: from `differences`.
        name: of the score.
    """
    sentences = []
    complete = [place for place, one in enumerate(ranking) if one.is_complete and one.values]
    others = [place for place in complete if place]
    if others and len(ranking[0].by_seed) < 2:
        sentences.append("With one seed the spread is unknown, so no difference can be told from chance.")
    elif others:
        equal = [place + 1 for place in others if not (found[place] and found[place].is_significant)]  # type: ignore[union-attr]
        test = f"paired t-test over the seeds, Holm's correction, p < {SIGNIFICANCE:g}"
        if not equal:
            sentences.append(f"The first one differs in {name} from all others ({test}).")
        else:
            which = "any other" if len(equal) == len(others) else f"number {_listed(equal)}"
            sentences.append(f"No difference in {name} was found between the first one and {which} ({test}).")
    if missing := sum(not one.is_complete for one in ranking):
        sentences.append(
            f"{missing} of {len(ranking)} combinations lack seeds: they are marked, and stand below complete ones."
        )
    return " ".join(sentences)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers)


def describe(difference: Difference | None) -> str:
    """Return a difference for a table: its mean, or "none" where it is not larger than chance explains."""
    if difference is None:
        return ""
    if difference.p is None:
        return f"{difference.mean:+.3g} (1 seed)"
    p = "p < 0.001" if difference.p < 0.001 else f"p = {difference.p:.2g}"
    return f"{difference.mean:+.3g} ({p})" if difference.is_significant else f"none ({p})"


def is_lower_better(jobs: Sequence[Job], score_name: str) -> bool:
    """Tell whether a lower score is better, as the evaluation has recorded it; True if no job has the score."""
    directions = (job.better[score[0]] for job in jobs if (score := job.score(score_name)))
    return next(directions, "lower") != "higher"


def _combine(swept: tuple[str, ...], jobs: list[Job], score_name: str, lower: bool) -> Combination:
    found = [(score, job) for job in jobs if job.state == "done" and (score := job.score(score_name))]
    scored = [(score, job) for score, job in found if math.isfinite(score[1])]
    best = (min if lower else max)(scored, key=lambda pair: pair[0][1])[1] if scored else None
    name = scored[0][0][0] if scored else None
    by_seed = {seed_of(job): score[1] for score, job in scored}
    return Combination(swept, jobs, name, [score[1] for score, _ in scored], best, by_seed)


def seed_of(job: Job) -> str:
    """Return the seed of a job as it was swept; "" if all jobs have the same."""
    seeds = (override.partition("=")[2] for override in job.swept if override.startswith(f"{SEED}="))
    return next(seeds, "")

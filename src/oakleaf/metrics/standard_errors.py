"""Standard errors of metrics, and intervals for the difference between samples and the real-data baseline."""

from collections.abc import Callable
from math import hypot, sqrt
from statistics import stdev

import torch
from torch import Tensor

from oakleaf.runtime.seeds import derive_seed

CONFIDENCE = 0.95


def standard_errors(compute: Callable[[Tensor], dict[str, float]], count: int, resamples: int) -> dict[str, float]:
    """Estimate how much numbers that are computed from `count` images vary from one set of images to another.

    The numbers are computed for random halves of the images. The standard deviation over halves, times the root of
    (kept / left out), estimates that of the whole set: the jackknife that deletes half of the observations. A bootstrap
    with replacement would repeat images, and a repeated image is its own nearest neighbour, which spoils every metric
    that compares neighbours.

    Args:
        compute: from rows [n] of the images to the numbers by name.
        count: the number of images.
        resamples: the number of halves; at least 2.

    Returns:
        The standard error of each number.

    Reference: Shao & Wu 1989, A general theory for jackknife variance estimation, Annals of Statistics 17.
    """
    generator = torch.Generator().manual_seed(derive_seed(0, "halves", count))
    kept = count // 2
    halves = [compute(torch.randperm(count, generator=generator)[:kept]) for _ in range(resamples)]
    return {name: sqrt(kept / (count - kept)) * stdev(half[name] for half in halves) for name in halves[0]}


def difference_interval(difference: float, one: float, two: float, resamples: int) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two independent numbers.

    Args:
        difference: the estimate.
        one: standard error of the first number.
        two: standard error of the second number.
        resamples: the number of halves by which both were estimated.
    """
    from scipy.stats import t as student_t  # takes longer to import than a short evaluation during training

    margin = float(student_t.ppf((1 + CONFIDENCE) / 2, resamples - 1)) * hypot(one, two)
    return difference - margin, difference + margin

"""K-means, from which mixtures begin."""

from math import log

import torch
from torch import Tensor


def clusters(x: Tensor, count: int, rounds: int = 20, generator: torch.Generator | None = None) -> Tensor:
    """For each of x [N, d] the number of its cluster, [N]; at most `count`, none of them empty. Lloyd's algorithm from
    greedy k-means++ (Arthur & Vassilvitskii 2007; as in scikit-learn, the best of 2 + log(count) draws each time).
    """
    centres = seeds(x, count, generator)
    for _ in range(rounds):
        nearest = torch.cdist(x, centres).argmin(1)
        total = torch.zeros_like(centres).index_add_(0, nearest, x)
        size = torch.bincount(nearest, minlength=len(centres)).to(x.dtype)[:, None]
        centres = torch.where(size > 0, total / size.clamp(min=1), centres)
    nearest = torch.cdist(x, centres).argmin(1)
    return torch.unique(nearest, return_inverse=True)[1]


def seeds(x: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Rows of x far from each other, [count, d]."""
    tries = 2 + int(log(count))
    chosen = [x[torch.randint(len(x), (1,), generator=generator)]]
    left = torch.cdist(x, chosen[0])[:, 0].square()  # squared distance to the nearest that is chosen
    for _ in range(count - 1):
        if not left.any():  # fewer different rows than clusters
            break
        # searchsorted: multinomial takes at most 2^24 rows
        course = left.double().cumsum(0)
        drawn = torch.rand(tries, generator=generator, dtype=torch.float64) * course[-1]
        candidates = torch.searchsorted(course, drawn).clamp(max=len(x) - 1)
        after = torch.minimum(left[:, None], torch.cdist(x, x[candidates]).square())  # [N, tries]
        best = after.sum(0).argmin()
        chosen.append(x[candidates[best]][None])
        left = after[:, best]
    return torch.cat(chosen)


def component(z: Tensor, weights: Tensor) -> Tensor:
    """Which component a number ~ N(0, 1) chooses: z [B], weights [K] -> [B]. The normal's cumulative distribution
    function makes it uniform, the weights' cuts it up.
    """
    chance = torch.special.ndtr(z.to(weights.dtype))
    return torch.searchsorted(weights.cumsum(0), chance).clamp(max=len(weights) - 1)

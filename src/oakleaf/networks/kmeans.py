"""K-means clustering, from which mixture models are initialised."""

from math import log

import torch
from torch import Tensor


def kmeans(x: Tensor, count: int, iterations: int = 20, generator: torch.Generator | None = None) -> Tensor:
    """Cluster the rows of x by Lloyd's algorithm, initialised by greedy k-means++.

    Args:
        x: points [N, d].
        count: maximal number of clusters.
        iterations: iterations of Lloyd's algorithm.
        generator: source of the random numbers; None: torch's default one.

    Returns:
        The cluster of each point [N], numbered from 0. No cluster is empty, so there may be fewer than `count`.

    Reference: Lloyd 1982; Arthur & Vassilvitskii 2007.
    """
    centres = kmeans_plus_plus(x, count, generator)
    for _ in range(iterations):
        nearest = torch.cdist(x, centres).argmin(1)
        total = torch.zeros_like(centres).index_add_(0, nearest, x)
        size = torch.bincount(nearest, minlength=len(centres)).to(x.dtype)[:, None]
        centres = torch.where(size > 0, total / size.clamp(min=1), centres)
    nearest = torch.cdist(x, centres).argmin(1)
    return torch.unique(nearest, return_inverse=True)[1]


def kmeans_plus_plus(x: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Choose initial centres by greedy k-means++: rows of x that are far from each other.

    A row is drawn with a probability proportional to its squared distance to the nearest centre so far. As in
    scikit-learn, each centre is the best of 2 + log(count) such draws.

    Args:
        x: points [N, d].
        count: maximal number of centres.
        generator: source of the random numbers; None: torch's default one.

    Returns:
        Centres [count, d]; fewer if x has fewer different rows.

    Reference: Arthur & Vassilvitskii 2007, "k-means++: the advantages of careful seeding".
    """
    trials = 2 + int(log(count))
    centres = [x[torch.randint(len(x), (1,), generator=generator)]]
    squared = torch.cdist(x, centres[0])[:, 0].square()  # squared distance of each point to its nearest centre
    for _ in range(count - 1):
        if not squared.any():  # every different row is a centre
            break
        # searchsorted, because torch.multinomial supports at most 2^24 rows
        cumulative = squared.double().cumsum(0)
        drawn = torch.rand(trials, generator=generator, dtype=torch.float64) * cumulative[-1]
        candidates = torch.searchsorted(cumulative, drawn).clamp(max=len(x) - 1)
        squared_with = torch.minimum(squared[:, None], torch.cdist(x, x[candidates]).square())  # [N, trials]
        best = squared_with.sum(0).argmin()
        centres.append(x[candidates[best]][None])
        squared = squared_with[:, best]
    return torch.cat(centres)


def select_component(z: Tensor, weights: Tensor) -> Tensor:
    """Select the component of a mixture by a standard normal number.

    The cumulative distribution function of the normal makes the number uniform in [0, 1]; the cumulative weights divide
    that interval between the components.

    Args:
        z: numbers from N(0, 1) [B].
        weights: weights of the components [K], whose sum is 1.

    Returns:
        The component of each number [B], from 0 to K - 1.
    """
    uniform = torch.special.ndtr(z.to(weights.dtype))
    return torch.searchsorted(weights.cumsum(0), uniform).clamp(max=len(weights) - 1)

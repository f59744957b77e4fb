"""The search for copies of training images, small shifts included."""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d

from oakleaf.metrics.neighbours import Nearest, flat, nearest, shuffled

COARSE_SIDE = 8  # px; images of this size choose the candidates
FINE_SIDE = 32  # px; images of at most this size are compared
CANDIDATES = 20  # training images that are compared with each query
SHIFT = 14  # shifts are at most 1 / SHIFT of a side
POOL = 2  # px in each direction whose mean is compared, so that noise matters less than what an image shows
BLOCK = 128  # queries that are compared at once


class CopySearch:
    """Find the training images that are nearest to a query, in pixels, over small shifts.

    The `CANDIDATES` nearest images of 8 x 8 px are compared with the query at up to 32 x 32 px: for each shift of up to
    a fourteenth of a side, the part where both images overlap, averaged over 2 x 2 px. The distance is the smallest
    over all shifts, the root of the mean squared difference of values in [0, 1].

    Args:
        images: from rows to stored images [B, C, H, W].
        count: the number of images.
        mirrors: whether a mirrored image is a copy, too.
    """

    def __init__(self, images: Callable[[Tensor], Tensor], count: int, mirrors: bool) -> None:
        self.images, self.count, self.mirrors = images, count, mirrors
        rows = torch.arange(count).split(1024)
        self.coarse = torch.cat([shrink(images(part), COARSE_SIDE).flatten(1) for part in rows])

    def __call__(self, queries: Tensor, k: int = 1, own: Tensor | None = None) -> Nearest:
        """Return the k nearest training images of stored images [N, C, H, W].

        Args:
            queries: the images to search for.
            k: the number of neighbours; fewer if there are fewer training images.
            own: the rows of the queries, if they are training images [N]; none is its own neighbour.
        """
        blocks = list(queries.split(BLOCK))
        rows = [None] * len(blocks) if own is None else own.split(BLOCK)
        found = [self._search(block, k, part) for block, part in zip(blocks, rows)]
        return Nearest(torch.cat([one.distance for one in found]), torch.cat([one.row for one in found]))

    def _search(self, queries: Tensor, k: int, own: Tensor | None) -> Nearest:
        candidates = self._candidates(queries)  # [B, K]
        fine = shrink(self.images(candidates.flatten()), FINE_SIDE).unflatten(0, candidates.shape)
        versions = [queries, queries.flip(3)] if self.mirrors else [queries]
        distance = torch.stack([distance_over_shifts(shrink(one, FINE_SIDE), fine) for one in versions]).amin(0)
        if own is not None:
            distance[candidates == own[:, None]] = torch.inf
        smallest = distance.topk(min(k, distance.shape[1] - (own is not None)), largest=False)
        return Nearest(smallest.values, candidates.gather(1, smallest.indices))

    def _candidates(self, queries: Tensor) -> Tensor:
        """The rows of the training images that are nearest to each query on coarse images, [B, K], none twice."""
        k = min(CANDIDATES, self.count)
        rows = nearest(shrink(queries, COARSE_SIDE).flatten(1), self.coarse, k).row
        if not self.mirrors:
            return rows
        mirrored = nearest(shrink(queries.flip(3), COARSE_SIDE).flatten(1), self.coarse, k).row
        both = torch.stack([rows, mirrored], 2).flatten(1)  # alternating, nearest first
        repeated = (both[:, :, None] == both[:, None, :]).tril(-1).any(2)
        order = repeated.int().argsort(dim=1, stable=True)[:, :k]
        return both.gather(1, order)


def distance_over_shifts(queries: Tensor, candidates: Tensor) -> Tensor:
    """Compute the smallest distance of each query and each of its candidates over small shifts.

    Args:
        queries: [B, C, H, W].
        candidates: [B, K, C, H, W].

    Returns:
        The root of the mean squared difference where both overlap, [B, K].
    """
    height, width = queries.shape[2:]
    dy, dx = height // SHIFT, width // SHIFT
    pool = POOL if min(height, width) >= 4 * POOL else 1
    rows, columns = ((side - 2 * shift) // pool for side, shift in ((height, dy), (width, dx)))
    centre = avg_pool2d(queries[:, :, dy:, dx:], pool)[:, None, :, :rows, :columns]
    means = avg_pool2d(candidates.flatten(0, 1), pool, stride=1).unflatten(0, candidates.shape[:2])  # at every pixel
    best = torch.full(candidates.shape[:2], torch.inf)
    for y, x in product(range(2 * dy + 1), range(2 * dx + 1)):
        window = means[:, :, :, y : y + rows * pool : pool, x : x + columns * pool : pool]
        best = torch.minimum(best, (centre - window).square().flatten(2).mean(2))
    return best.sqrt()


def shrink(images: Tensor, side: int) -> Tensor:
    """Convert stored images [B, C, H, W] to floats in [0, 1], shrunk by area to at most `side` pixels a side."""
    height, width = (min(side, length) for length in images.shape[2:])
    return adaptive_avg_pool2d(flat(images).view(images.shape), (height, width))


def leave_one_out(search: CopySearch, rows: Tensor, most: int) -> Tensor:
    """Return the distances of some training images to the nearest other ones, duplicates not counted, [at most `most`].

    Args:
        search: the search among all training images.
        rows: rows of training images.
        most: use at most this many of them.
    """
    rows = rows[shuffled(len(rows), most)]
    distance = search(search.images(rows), 1, rows).distance[:, 0]
    return distance[distance > 0]

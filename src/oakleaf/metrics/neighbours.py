"""Nearest neighbours by Euclidean distance, in blocks, so that no matrix of all distances is held in memory."""

from typing import NamedTuple

import torch
from torch import Tensor

from oakleaf.image_grid import are_points

BLOCK = 2048  # rows whose distances to all others are held in memory at once


class Nearest(NamedTuple):
    """The k nearest references of N queries, nearest first.

    Attributes:
        distance: [N, k].
        row: [N, k], the indices of the references.
    """

    distance: Tensor
    row: Tensor


def nearest(queries: Tensor, references: Tensor, k: int = 1, exclude_self: bool = False) -> Nearest:
    """Find the k nearest references of each query.

    `torch.cdist` selects the neighbours; their distances are then computed again from differences, because the matrix
    products of `cdist` do not give exactly 0 for two equal rows.

    Args:
        queries: [N, ...], flattened by `flat`.
        references: [M, ...], flattened by `flat`.
        k: the number of neighbours; at most M.
        exclude_self: queries and references are the same rows, and no row is its own neighbour.

    Returns:
        Distances and row indices, [N, k] each.
    """
    blocks = [
        _nearest_of_block(block, BLOCK * i, references, k, exclude_self) for i, block in enumerate(queries.split(BLOCK))
    ]
    return Nearest(torch.cat([block.distance for block in blocks]), torch.cat([block.row for block in blocks]))


def _nearest_of_block(queries: Tensor, offset: int, references: Tensor, k: int, exclude_self: bool) -> Nearest:
    """The neighbours of one block of queries, whose first row has the index `offset`."""
    best: Nearest | None = None
    flat_queries = flat(queries)
    for start in range(0, len(references), 4 * BLOCK):
        distance = torch.cdist(flat_queries, flat(references[start : start + 4 * BLOCK]))
        if exclude_self:
            own = offset + torch.arange(len(queries), device=distance.device) - start
            inside = (own >= 0) & (own < distance.shape[1])
            distance[torch.nonzero(inside).flatten(), own[inside]] = torch.inf
        smallest = distance.topk(min(k, distance.shape[1]), largest=False)
        block = Nearest(smallest.values, smallest.indices + start)
        best = block if best is None else merge_nearest(best, block, k)
    assert best is not None
    return _with_exact_distances(flat_queries, references, best.row)


def _with_exact_distances(queries: Tensor, references: Tensor, row: Tensor) -> Nearest:
    """The same neighbours, sorted by distances that are computed from differences."""
    distance = torch.stack([(queries - flat(references[column])).norm(dim=1) for column in row.cpu().T], 1)
    order = distance.argsort(dim=1, stable=True)
    return Nearest(distance.gather(1, order), row.gather(1, order))


def merge_nearest(first: Nearest, second: Nearest, k: int) -> Nearest:
    """Return the k nearest of two lists of neighbours of the same queries."""
    distance, row = torch.cat([first.distance, second.distance], 1), torch.cat([first.row, second.row], 1)
    smallest = distance.topk(min(k, distance.shape[1]), largest=False)
    return Nearest(smallest.values, row.gather(1, smallest.indices))


def flat(pixels: Tensor) -> Tensor:
    """Flatten stored images [N, C, H, W] to [N, d] float32 in [0, 1]; points and vectors keep their values."""
    values = pixels.flatten(1)
    if values.dtype == torch.uint8:
        return values.float() / 255
    is_image = pixels.dim() == 4 and not are_points(pixels)  # floating point in [-1, 1]
    return (values.float() + 1) / 2 if is_image else values.float()


def shuffled(count: int, most: int | None = None) -> Tensor:
    """Return the row indices 0 to count - 1 in a fixed random order, the same in every call.

    Args:
        count: the number of rows.
        most: return only the first `most` of the order; None: all.
    """
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:most]

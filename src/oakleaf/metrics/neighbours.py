"""Distances to nearest neighbours, by pieces, so that no matrix of all pairs is held."""

from typing import NamedTuple

import torch
from torch import Tensor

PIECE = 2048  # rows whose distances to all others are held at once


class Nearest(NamedTuple):
    distance: Tensor  # [N, k], nearest first
    row: Tensor  # [N, k]


def nearest(these: Tensor, those: Tensor, k: int = 1, themselves: bool = False) -> Nearest:
    """The k nearest of `those` [M, ...] to each of `these` [N, ...], Euclidean, both flattened by `flat`. themselves:
    both are the same rows, and a row is not its own neighbour."""
    parts = [_near(piece, PIECE * i, those, k, themselves) for i, piece in enumerate(these.split(PIECE))]
    return Nearest(torch.cat([part.distance for part in parts]), torch.cat([part.row for part in parts]))


def _exact(these: Tensor, those: Tensor, row: Tensor) -> Nearest:
    """Those neighbours again by differences: by the products of which `cdist` makes distances, twins are not at 0."""
    apart = torch.stack([(these - flat(those[column])).norm(dim=1) for column in row.cpu().T], 1)
    order = apart.argsort(dim=1, stable=True)
    return Nearest(apart.gather(1, order), row.gather(1, order))


def _near(these: Tensor, first: int, those: Tensor, k: int, themselves: bool) -> Nearest:
    """For some rows, the first of them numbered so."""
    best: Nearest | None = None
    mine = flat(these)
    for start in range(0, len(those), 4 * PIECE):
        between = torch.cdist(mine, flat(those[start : start + 4 * PIECE]))
        if themselves:
            own = first + torch.arange(len(these), device=between.device) - start
            inside = (own >= 0) & (own < between.shape[1])
            between[torch.nonzero(inside).flatten(), own[inside]] = torch.inf
        found = between.topk(min(k, between.shape[1]), largest=False)
        part = Nearest(found.values, found.indices + start)
        best = part if best is None else merged(best, part, k)
    assert best is not None
    return _exact(mine, those, best.row)


def merged(one: Nearest, two: Nearest, k: int) -> Nearest:
    """The k nearest of both."""
    distance, row = torch.cat([one.distance, two.distance], 1), torch.cat([one.row, two.row], 1)
    found = distance.topk(min(k, distance.shape[1]), largest=False)
    return Nearest(found.values, row.gather(1, found.indices))


def flat(pixels: Tensor) -> Tensor:
    """[N, C, H, W] as stored -> [N, d] float32, bytes in [0, 1]."""
    values = pixels.flatten(1)
    return values.float() / 255 if values.dtype == torch.uint8 else values.float()


def shuffled(count: int, most: int | None = None) -> Tensor:
    """Row numbers in an order that never changes, at most so many."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:most]

"""Distances to nearest neighbours, by pieces, so that no matrix of all pairs is held."""

from typing import NamedTuple

import torch
from torch import Tensor

PIECE = 2048  # rows whose distances to all others are held at once


class Nearest(NamedTuple):
    distance: Tensor  # [N, k], nearest first
    row: Tensor  # [N, k]


def nearest(these: Tensor, those: Tensor, k: int = 1, themselves: bool = False) -> Nearest:
    """The k nearest of `those` [M, d] to each of `these` [N, d], Euclidean. themselves: both are the same rows, and a
    row is not its own neighbour."""
    distances, indices = [], []
    for start in range(0, len(these), PIECE):
        between = torch.cdist(these[start : start + PIECE], those)
        if themselves:
            rows = torch.arange(len(between), device=between.device)
            between[rows, start + rows] = torch.inf
        found = between.topk(k, largest=False)
        distances.append(found.values)
        indices.append(found.indices)
    return Nearest(torch.cat(distances), torch.cat(indices))


def flat(pixels: Tensor) -> Tensor:
    """[N, C, H, W] as stored -> [N, d] float32, bytes in [0, 1]."""
    values = pixels.flatten(1)
    return values.float() / 255 if values.dtype == torch.uint8 else values.float()


def shuffled(count: int, most: int | None = None) -> Tensor:
    """Row numbers in an order that never changes, at most so many."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:most]

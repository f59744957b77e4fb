"""Principal directions of a generator's latents: those along which its images change the most."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

BATCH = 128  # images that are generated at once
MAX_IMAGES = 4096  # that are generated for the directions
MAX_POINTS = 8  # latents at which the derivative is computed
STEP = 0.05  # of a latent in units of its standard deviation


class Directions(NamedTuple):
    """Directions in latent space, that of the largest change first.

    Attributes:
        vectors: orthogonal vectors of length 1, [K, d].
        shares: share of the mean squared change of images that each one has, [K].
    """

    vectors: Tensor
    shares: Tensor


def principal_directions(generate: Callable[[Tensor], Tensor], latents: Tensor, count: int) -> Directions:
    """Compute the directions along which images change the most.

    They are the eigenvectors with the largest eigenvalues of the mean of J^T J, where J is the derivative of the image
    with respect to the latent, by central differences. For a single latent they are the right singular vectors of J.

    Args:
        generate: from latents [B, d] to images [B, C, H, W].
        latents: where the derivative is computed; as many of them are used as few thousand images allow, [N, d].
        count: number of directions, K; at most d.

    Reference: Ramesh 2018, arXiv:1812.01161, section 3 (singular vectors of J); Constantine 2015, Active Subspaces,
    eq. (3.2) (the mean over points).
    """
    width = latents.shape[1]
    points = latents[: max(1, min(MAX_POINTS, MAX_IMAGES // (2 * width)))]
    total = torch.zeros(width, width, dtype=torch.float64)
    offsets = STEP * torch.eye(width)
    for point in points:
        changed = torch.cat([point + offsets, point - offsets])
        images = torch.cat([generate(part).flatten(1).cpu() for part in changed.split(BATCH)]).double()
        jacobian = (images[:width] - images[width:]) / (2 * STEP)  # [d, pixels]: J transposed
        total += jacobian @ jacobian.T
    values, vectors = torch.linalg.eigh(total)
    largest = values.flip(0).clamp(min=0)
    shares = largest / largest.sum().clamp(min=1e-12)
    return Directions(vectors.flip(1).T[:count].float(), shares[:count].float())

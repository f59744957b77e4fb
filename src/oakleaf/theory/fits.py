"""The Gaussian with the smallest divergence from a density, by quadrature: what adversarial training has to find."""

import torch
from torch import Tensor

from oakleaf.losses.divergences import Divergence
from oakleaf.theory.densities import Mixture, grid, integral

X = grid(1201, 10.0)


def divergence_to(p: Mixture, divergence: Divergence, mu: Tensor, sigma: Tensor) -> Tensor:
    """Compute D_f(p || N(mu, sigma^2)), [...], for each pair of mu [...] and sigma [...], by quadrature.

    The value is infinite where an integrand overflows.
    """
    log_q = Mixture().log_density((X - mu[..., None]) / sigma[..., None]) - sigma[..., None].log()
    value = integral(log_q.exp() * divergence.f((p.log_density(X) - log_q).exp()), X)
    return value.nan_to_num(nan=torch.inf)


def nearest(p: Mixture, divergence: Divergence, sides: int = 21, zooms: int = 9) -> tuple[float, float]:
    """Find the mu and sigma with the smallest divergence.

    The best point of a grid is refined by ever finer grids around it.

    Args:
        p: the density.
        divergence: the divergence.
        sides: points along each side of a grid.
        zooms: number of grids.

    Returns:
        mu and sigma.
    """
    mu, sigma, reach = p.mean, p.sd, torch.tensor(1.0, dtype=torch.float64)
    steps = torch.linspace(-1, 1, sides, dtype=torch.float64)
    for _ in range(zooms):
        mus, sigmas = torch.meshgrid(mu + p.sd * reach * steps, sigma * (0.8 * reach * steps).exp(), indexing="ij")
        best = divergence_to(p, divergence, mus, sigmas).argmin()
        mu, sigma = mus.flatten()[best].item(), sigmas.flatten()[best].item()
        reach = reach * 0.4
    return mu, sigma

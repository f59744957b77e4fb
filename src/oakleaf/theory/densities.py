"""Densities on the real line, whose expectations are known exactly or by quadrature."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

REACH = 14.0  # the densities of the labs have no mass outside [-REACH, REACH] that float64 could represent


def grid(points: int = 4001, reach: float = REACH) -> Tensor:
    """Return equidistant points in [-reach, reach] for quadrature, [points], float64."""
    return torch.linspace(-reach, reach, points, dtype=torch.float64)


def integral(values: Tensor, x: Tensor) -> Tensor:
    """Integrate over the last axis by the trapezoidal rule.

    For smooth densities that vanish at both ends it is exact up to rounding.
    """
    return torch.trapezoid(values, x)


@dataclass(frozen=True)
class Mixture:
    """A mixture of Gaussians on the real line.

    Args:
        weights: of the components; they sum to 1.
        means: of the components.
        sds: standard deviations of the components.
    """

    weights: tuple[float, ...] = (1.0,)
    means: tuple[float, ...] = (0.0,)
    sds: tuple[float, ...] = (1.0,)

    def log_density(self, x: Tensor) -> Tensor:
        """Return log p(x), [...], for x [...]."""
        weights, means, sds = (torch.tensor(v, dtype=x.dtype) for v in (self.weights, self.means, self.sds))
        z = (x[..., None] - means) / sds
        return torch.logsumexp(weights.log() - sds.log() - z.square() / 2, -1) - math.log(2 * math.pi) / 2

    def cumulative(self, x: Tensor) -> Tensor:
        """Return P(X <= x), [...], for x [...]."""
        weights, means, sds = (torch.tensor(v, dtype=x.dtype) for v in (self.weights, self.means, self.sds))
        return (weights * torch.special.ndtr((x[..., None] - means) / sds)).sum(-1)

    def quantile(self, u: Tensor) -> Tensor:
        """Return the x with P(X <= x) = u, float64, for u in (0, 1)."""
        return torch.from_numpy(np.interp(u.double().numpy(), *_cumulative_table(self)))

    def sample(self, n: int) -> Tensor:
        """Draw a stratified sample [n, 1], float32: one point from each n-th part of the mass, in random order.

        Its means are unbiased, with far less noise than those of n independent points.
        """
        u = (torch.randperm(n).double() + torch.rand(n, dtype=torch.float64)) / n
        return self.quantile(u).float()[:, None]

    @property
    def mean(self) -> float:
        """The mean."""
        return sum(w * m for w, m in zip(self.weights, self.means))

    @property
    def sd(self) -> float:
        """The standard deviation."""
        second = sum(w * (m**2 + s**2) for w, m, s in zip(self.weights, self.means, self.sds))
        return math.sqrt(second - self.mean**2)


@cache
def _cumulative_table(density: Mixture) -> tuple[np.ndarray, np.ndarray]:
    """Return values of the cumulative distribution, and the points where they are reached."""
    x = grid(40_001)
    return density.cumulative(x).numpy(), x.numpy()


def jensen_shannon(p: Mixture, q: Mixture) -> float:
    """Compute the Jensen-Shannon divergence JSD(p || q) in nats, by quadrature.

    Reference: Goodfellow 2014, arXiv:1406.2661, eq. (6).
    """
    x = grid()
    a, b = p.log_density(x), q.log_density(x)
    middle = torch.logaddexp(a, b) - math.log(2)
    return integral(a.exp() * (a - middle) + b.exp() * (b - middle), x).item() / 2

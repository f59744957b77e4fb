"""Densities on the line whose every expectation is known."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

REACH = 14.0  # beyond it no density of the labs has any mass that float64 could see


def grid(points: int = 4001, reach: float = REACH) -> Tensor:
    """Equidistant points for quadrature, [points], float64."""
    return torch.linspace(-reach, reach, points, dtype=torch.float64)


def integral(values: Tensor, x: Tensor) -> Tensor:
    """The trapezoidal rule over the last axis, exact to rounding where a smooth density has died out at the ends."""
    return torch.trapezoid(values, x)


@dataclass(frozen=True)
class Mixture:
    """A mixture of Gaussians on the line."""

    weights: tuple[float, ...] = (1.0,)
    means: tuple[float, ...] = (0.0,)
    sds: tuple[float, ...] = (1.0,)

    def log_density(self, x: Tensor) -> Tensor:
        """x [...] -> log p(x) [...]"""
        weights, means, sds = (torch.tensor(v, dtype=x.dtype) for v in (self.weights, self.means, self.sds))
        z = (x[..., None] - means) / sds
        return torch.logsumexp(weights.log() - sds.log() - z.square() / 2, -1) - math.log(2 * math.pi) / 2

    def cumulative(self, x: Tensor) -> Tensor:
        """x [...] -> P(X <= x) [...]"""
        weights, means, sds = (torch.tensor(v, dtype=x.dtype) for v in (self.weights, self.means, self.sds))
        return (weights * torch.special.ndtr((x[..., None] - means) / sds)).sum(-1)

    def quantile(self, u: Tensor) -> Tensor:
        """u in (0, 1) -> the x below which that share lies, float64."""
        return torch.from_numpy(np.interp(u.double().numpy(), *_inverse(self)))

    def sample(self, n: int) -> Tensor:
        """A stratified sample [n, 1], float32: one point from each n-th part of the mass, in random order. Its means
        are unbiased, with far less noise than those of n independent points."""
        u = (torch.randperm(n).double() + torch.rand(n, dtype=torch.float64)) / n
        return self.quantile(u).float()[:, None]

    @property
    def mean(self) -> float:
        return sum(w * m for w, m in zip(self.weights, self.means))

    @property
    def sd(self) -> float:
        second = sum(w * (m**2 + s**2) for w, m, s in zip(self.weights, self.means, self.sds))
        return math.sqrt(second - self.mean**2)


@cache
def _inverse(density: Mixture) -> tuple[np.ndarray, np.ndarray]:
    """The cumulative distribution and where it is reached."""
    x = grid(40_001)
    return density.cumulative(x).numpy(), x.numpy()


def jensen_shannon(p: Mixture, q: Mixture) -> float:
    """JSD(p || q) in nats, by quadrature. Goodfellow 2014, arXiv:1406.2661, eq. (6)."""
    x = grid()
    a, b = p.log_density(x), q.log_density(x)
    middle = torch.logaddexp(a, b) - math.log(2)
    return integral(a.exp() * (a - middle) + b.exp() * (b - middle), x).item() / 2

"""Where latents come from. A prior is a small picklable object: `prior(n, device) -> z [n, dim]`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from oakleaf.numbers import Count


@dataclass
class Normal:
    """z ~ N(0, I)."""

    dim: Count

    def __call__(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        return torch.randn(n, self.dim, device=device)


@dataclass
class Uniform:
    """z ~ U(low, high) in every coordinate. Radford 2015 uses (-1, 1); +-sqrt(3) has variance 1."""

    dim: Count
    low: float = -1.0
    high: float = 1.0

    def __call__(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        return torch.rand(n, self.dim, device=device) * (self.high - self.low) + self.low

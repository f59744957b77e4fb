"""Where latents come from. A prior is a small picklable object: `prior(n, device) -> z [n, dim]`."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from oakleaf.numbers import Count, Positive


@dataclass
class Normal:
    """z ~ N(0, I); with `truncation` from the part of it within +-truncation in each coordinate (Brock 2018,
    arXiv:1809.11096, section 3.1)."""

    dim: Count
    truncation: Positive | None = None

    def __call__(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        z = torch.randn(n, self.dim, device=device)
        if self.truncation is not None:
            nn.init.trunc_normal_(z, 0.0, 1.0, -self.truncation, self.truncation)
        return z


@dataclass
class Uniform:
    """z ~ U(low, high) in every coordinate. Radford 2015 uses (-1, 1); +-sqrt(3) has variance 1."""

    dim: Count
    low: float = -1.0
    high: float = 1.0

    def __call__(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        return torch.rand(n, self.dim, device=device) * (self.high - self.low) + self.low

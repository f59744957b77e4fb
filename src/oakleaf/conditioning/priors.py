"""Where latents come from. A prior is a small picklable object: `prior(n, device) -> z [n, dim]`."""

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from oakleaf.config.types import NonNegativeInt, PositiveFloat, PositiveInt
from oakleaf.errors import UserError


class Prior(Protocol):
    """A distribution of latents."""

    dim: int

    def __call__(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        """Latents [n, dim]."""


@dataclass
class Normal:
    """z ~ N(0, I); with `truncation` from the part of it within +-truncation in each coordinate (Brock 2018,
    arXiv:1809.11096, section 3.1)."""

    dim: PositiveInt
    truncation: PositiveFloat | None = None

    def __call__(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        z = torch.randn(n, self.dim, device=device)
        if self.truncation is not None:
            nn.init.trunc_normal_(z, 0.0, 1.0, -self.truncation, self.truncation)
        return z


@dataclass
class Uniform:
    """z ~ U(low, high) in every coordinate. Radford 2015 uses (-1, 1); +-sqrt(3) has variance 1."""

    dim: PositiveInt
    low: float = -1.0
    high: float = 1.0

    def __call__(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        return torch.rand(n, self.dim, device=device) * (self.high - self.low) + self.low


@dataclass
class Codes:
    """Noise and, after it, a code c: for each of `categories` a one-hot vector of so many values, then `continuous`
    numbers ~ U(-1, 1). Chen 2016, arXiv:1606.03657, appendix C. Noise ~ U(low, high).

    dim: of all of it together.

    Raises:
        UserError: no room for the code.
    """

    dim: PositiveInt
    categories: list[PositiveInt] = field(default_factory=list)
    continuous: NonNegativeInt = 0
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.width > self.dim:
            raise UserError(f"prior.dim={self.dim}: the code alone needs {self.width}")

    @property
    def width(self) -> int:
        """Of the code."""
        return sum(self.categories) + self.continuous

    def __call__(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        noise = Uniform(self.dim - self.width, self.low, self.high)(n, device)
        drawn = [one_hot(torch.randint(k, (n,), device=device), k).to(noise.dtype) for k in self.categories]
        return torch.cat([noise, *drawn, Uniform(self.continuous)(n, device)], 1)

    def parts(self, code: Tensor) -> tuple[list[Tensor], Tensor]:
        """A code [n, width], or what has its layout: the categories [n, k] and the continuous part [n, continuous]."""
        *categories, continuous = code.split([*self.categories, self.continuous], 1)
        return list(categories), continuous

    def code(self, z: Tensor) -> Tensor:
        """The code [n, width] in latents [n, dim]."""
        return z[:, self.dim - self.width :]

"""Priors: the distributions of latents. A prior is a small picklable object, `prior(n, device) -> z [n, dim]`.

Random numbers come from torch's default generator of the device, which the training seeds in each iteration.
"""

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from oakleaf.config.types import NonNegativeInt, PositiveFloat, PositiveInt
from oakleaf.errors import UserError


class Prior(Protocol):
    """A distribution of latents.

    Attributes:
        dim: the length of a latent vector.
    """

    dim: int

    def __call__(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        """Draw latents.

        Args:
            n: how many.
            device: where they are drawn.

        Returns:
            [n, dim].
        """


@dataclass
class Normal:
    """z ~ N(0, I), optionally truncated.

    Args:
        dim: the length of a latent vector.
        truncation: each coordinate is drawn from the part of N(0, 1) within +-truncation; null: from all of it.

    Reference: Brock 2018, arXiv:1809.11096, section 3.1, for the truncation.
    """

    dim: PositiveInt
    truncation: PositiveFloat | None = None

    def __call__(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        z = torch.randn(n, self.dim, device=device)
        if self.truncation is not None:
            nn.init.trunc_normal_(z, 0.0, 1.0, -self.truncation, self.truncation)
        return z

    def truncated(self, z: Tensor, threshold: Tensor) -> Tensor:
        """Draw again the coordinates of latents that are beyond a threshold, until none is.

        This is the truncation trick: fewer unusual latents, so better single samples of less variety. Coordinates
        within the threshold keep their values, so with one seed a larger threshold changes fewer of them.

        Args:
            z: latents [n, dim]; they are not changed.
            threshold: one for each latent, [n], in standard deviations.

        Returns:
            [n, dim], within the thresholds.

        Reference: Brock 2018, arXiv:1809.11096, section 3.1.
        """
        z, limit = z.clone(), threshold.to(z)[:, None].expand_as(z)
        while (beyond := z.abs() > limit).any():
            z[beyond] = torch.randn(int(beyond.sum()), device=z.device, dtype=z.dtype)
        return z


@dataclass
class Uniform:
    """z ~ U(low, high) in each coordinate; +-sqrt(3) has variance 1.

    Args:
        dim: the length of a latent vector.
        low: the lower end.
        high: the upper end.

    Reference: Radford 2015, arXiv:1511.06434, uses (-1, 1).
    """

    dim: PositiveInt
    low: float = -1.0
    high: float = 1.0

    def __call__(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        return torch.rand(n, self.dim, device=device) * (self.high - self.low) + self.low


@dataclass
class Codes:
    """Noise ~ U(low, high) followed by a code c, which an InfoGAN learns to recover from the image.

    The code has a one-hot vector for each of `categories`, then `continuous` numbers ~ U(-1, 1).

    Args:
        dim: the length of a latent vector, noise and code together.
        categories: the number of values of each categorical variable.
        continuous: the number of continuous variables.
        low: the lower end of the noise.
        high: the upper end of the noise.

    Raises:
        UserError: the code is longer than `dim`.

    Reference: Chen 2016, arXiv:1606.03657, appendix C.
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
        """The length of the code."""
        return sum(self.categories) + self.continuous

    def __call__(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        noise = Uniform(self.dim - self.width, self.low, self.high)(n, device)
        categories = [one_hot(torch.randint(k, (n,), device=device), k).to(noise.dtype) for k in self.categories]
        return torch.cat([noise, *categories, Uniform(self.continuous)(n, device)], 1)

    def parts(self, code: Tensor) -> tuple[list[Tensor], Tensor]:
        """Split a code, or anything in its layout such as a discriminator's estimate of it.

        Args:
            code: [n, width].

        Returns:
            The categorical variables, [n, k] each, and the continuous ones, [n, continuous].
        """
        *categories, continuous = code.split([*self.categories, self.continuous], 1)
        return list(categories), continuous

    def code(self, z: Tensor) -> Tensor:
        """Return the code [n, width] of latents z [n, dim]."""
        return z[:, self.dim - self.width :]

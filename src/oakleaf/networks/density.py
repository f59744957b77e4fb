"""A density of an auto-encoder's codes, fitted after the training (ex-post density estimation)."""

from math import log, pi
from typing import NamedTuple

import torch
from torch import Tensor, nn

from oakleaf.config.types import PositiveInt
from oakleaf.networks.kmeans import kmeans, select_component
from oakleaf.runtime import distributed


class Mixture(NamedTuple):
    """A mixture of Gaussians with full covariances, in float64."""

    weights: Tensor  # [K]
    means: Tensor  # [K, c]
    covariances: Tensor  # [K, c, c]


class CodeDensity(nn.Module):
    """Sample codes from a mixture of Gaussians that is fitted to the last codes of the training.

    The codes are a buffer, so they are part of each checkpoint, and the mixture is fitted when samples are needed for
    the first time. Sampling therefore needs the checkpoint and no data. In the paper the whole training set is encoded
    after the last step; here the codes are those of the last `memory` images, by the encoder as it was at that time.

    Args:
        code: length of a code.
        components: Gaussians of the mixture; 1 gives a Gaussian with the mean and the covariance of the codes.
        memory: number of codes that are kept.

    Attributes:
        latent: length of the latent vector; its first number selects the component.

    Reference: Ghosh 2019, arXiv:1903.12436, section 4.
    """

    memory: Tensor  # [memory, code]
    seen: Tensor  # number of codes so far, also of those that have been overwritten

    def __init__(self, code: PositiveInt, components: PositiveInt = 10, memory: PositiveInt = 10_000) -> None:
        super().__init__()
        self.components, self.latent = components, 1 + code
        self.register_buffer("memory", torch.zeros(memory, code))
        self.register_buffer("seen", torch.tensor(0))
        self.fitted: tuple[int, Mixture] | None = None  # the mixture, and `seen` when it was fitted

    @torch.no_grad()
    def remember(self, codes: Tensor) -> None:
        """Store the codes of all processes; they overwrite the oldest ones.

        Args:
            codes: codes [B, code] of this process.
        """
        codes = distributed.all_gather(codes.detach().float())[-len(self.memory) :]
        rows = (self.seen + torch.arange(len(codes), device=codes.device)) % len(self.memory)
        self.memory[rows] = codes.to(self.memory.dtype)
        self.seen += len(codes)

    @torch.no_grad()
    def forward(self, z: Tensor) -> Tensor:
        """Sample codes.

        Args:
            z: latents [B, 1 + code] from N(0, I).

        Returns:
            Codes [B, code].
        """
        mixture = self.mixture()
        z_double = z.double().cpu()
        component = select_component(z_double[:, 0], mixture.weights)
        roots = torch.linalg.cholesky(mixture.covariances)[component]
        codes = mixture.means[component] + (roots @ z_double[:, 1:, None]).squeeze(2)
        return codes.to(z)

    def mixture(self) -> Mixture:
        """Return the mixture for the stored codes; N(0, I) if there are fewer than two."""
        seen = int(self.seen)
        if self.fitted is None or self.fitted[0] != seen:
            codes = self.memory[:seen].double().cpu()
            self.fitted = seen, fit(codes, self.components) if seen > 1 else _standard_normal(codes.shape[1])
        return self.fitted[1]


def fit(x: Tensor, components: int, iterations: int = 50, tolerance: float = 1e-4) -> Mixture:
    """Fit a mixture of Gaussians by expectation maximisation, initialised by k-means; deterministic.

    Args:
        x: points [N, c].
        components: maximal number of Gaussians.
        iterations: maximal number of iterations.
        tolerance: growth of the mean log-likelihood, in nats, below which the iteration ends.

    Returns:
        The mixture.

    Reference: Dempster 1977, "Maximum likelihood from incomplete data via the EM algorithm".
    """
    label = kmeans(x, components, generator=torch.Generator().manual_seed(0))
    mixture = _maximisation(x, torch.nn.functional.one_hot(label).to(x.dtype))
    previous = -torch.inf
    for _ in range(iterations):
        log_probabilities = log_joint(x, mixture)
        log_likelihood = float(log_probabilities.logsumexp(1).mean())
        if log_likelihood - previous < tolerance:
            break
        mixture, previous = _maximisation(x, log_probabilities.softmax(1)), log_likelihood
    return mixture


def log_joint(x: Tensor, mixture: Mixture) -> Tensor:
    """Compute log p(x, k), the joint log-density of points and components.

    Args:
        x: points [N, c].
        mixture: a mixture of K Gaussians.

    Returns:
        Log-densities [N, K].
    """
    roots = torch.linalg.cholesky(mixture.covariances)
    whitened = (x - mixture.means[:, None]) @ torch.linalg.inv(roots).mT  # [K, N, c]
    log_normaliser = roots.diagonal(dim1=1, dim2=2).log().sum(1) + 0.5 * x.shape[1] * log(2 * pi)
    return mixture.weights.log() - log_normaliser - 0.5 * whitened.square().sum(2).T


def _maximisation(x: Tensor, responsibilities: Tensor) -> Mixture:
    """The M step: the most likely mixture for x [N, c] and the responsibilities [N, K] of its components.

    A millionth of the variance of x is added to the covariances, so that they cannot become singular.
    """
    size = responsibilities.sum(0).clamp(min=1e-9)
    means = (responsibilities.T @ x) / size[:, None]
    weighted = (x - means[:, None]) * responsibilities.T[:, :, None]  # [K, N, c]
    covariances = weighted.mT @ x / size[:, None, None]  # as sum_n weighted = 0, x need not be centred
    covariances = (covariances + covariances.mT) / 2
    added = 1e-6 * x.var(0, correction=0).mean() + 1e-12
    return Mixture(size / size.sum(), means, covariances + added * torch.eye(x.shape[1], dtype=x.dtype))


def _standard_normal(code: int) -> Mixture:
    one = torch.ones(1, dtype=torch.float64)
    return Mixture(one, torch.zeros(1, code, dtype=torch.float64), torch.eye(code, dtype=torch.float64)[None])

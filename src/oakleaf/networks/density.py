"""The density of an auto-encoder's codes, fitted when the training is done with them."""

from math import log, pi
from typing import NamedTuple

import torch
from torch import Tensor, nn

from oakleaf.config.types import PositiveInt
from oakleaf.networks.kmeans import clusters, component
from oakleaf.runtime import distributed


class Mixture(NamedTuple):
    """Gaussians with full covariances, float64."""

    weights: Tensor  # [K]
    means: Tensor  # [K, c]
    covariances: Tensor  # [K, c, c]


class CodeDensity(nn.Module):
    """A mixture of Gaussians on the last `memory` codes of the training: ex-post density estimation, Ghosh 2019,
    arXiv:1903.12436, section 4; one component: a Gaussian with their mean and covariance.

    The codes themselves are a buffer, so they are in each checkpoint, and the mixture is fitted to them when samples
    are first asked for: a function of the checkpoint alone, without data. (The paper encodes the whole training set
    after the last step; these codes are from the last `memory` images, with the encoder as it was then.)
    latent: numbers that it takes; the first chooses the component.
    """

    memory: Tensor  # [memory, code]
    seen: Tensor  # how many codes there were so far

    def __init__(self, code: PositiveInt, components: PositiveInt = 10, memory: PositiveInt = 10_000) -> None:
        super().__init__()
        self.components, self.latent = components, 1 + code
        self.register_buffer("memory", torch.zeros(memory, code))
        self.register_buffer("seen", torch.tensor(0))
        self.fitted: tuple[int, Mixture] | None = None

    @torch.no_grad()
    def remember(self, codes: Tensor) -> None:
        """Take in codes [B, code] of all processes; the oldest go."""
        codes = distributed.all_gather(codes.detach().float())[-len(self.memory) :]
        place = (self.seen + torch.arange(len(codes), device=codes.device)) % len(self.memory)
        self.memory[place] = codes.to(self.memory.dtype)
        self.seen += len(codes)

    @torch.no_grad()
    def forward(self, z: Tensor) -> Tensor:
        """z [B, 1 + code] ~ N(0, I) -> codes [B, code]"""
        mixture = self.mixture()
        wide = z.double().cpu()
        chosen = component(wide[:, 0], mixture.weights)
        roots = torch.linalg.cholesky(mixture.covariances)[chosen]
        codes = mixture.means[chosen] + (roots @ wide[:, 1:, None]).squeeze(2)
        return codes.to(z)

    def mixture(self) -> Mixture:
        """Of the codes that are remembered; N(0, I) before there are any."""
        seen = int(self.seen)
        if self.fitted is None or self.fitted[0] != seen:
            codes = self.memory[:seen].double().cpu()
            self.fitted = seen, fit(codes, self.components) if seen > 1 else _standard(codes.shape[1])
        return self.fitted[1]


def fit(x: Tensor, components: int, rounds: int = 50, enough: float = 1e-4) -> Mixture:
    """By expectation maximisation (Dempster 1977) from clusters of x [N, c], the same for the same x; until the mean
    log-likelihood grows by less than `enough` nats."""
    label = clusters(x, components, generator=torch.Generator().manual_seed(0))
    mixture = _likeliest(x, torch.nn.functional.one_hot(label).to(x.dtype))
    before = -torch.inf
    for _ in range(rounds):
        both = joint(x, mixture)
        now = float(both.logsumexp(1).mean())
        if now - before < enough:
            break
        mixture, before = _likeliest(x, both.softmax(1)), now
    return mixture


def joint(x: Tensor, mixture: Mixture) -> Tensor:
    """log p(x, k) [N, K]"""
    roots = torch.linalg.cholesky(mixture.covariances)
    apart = (x - mixture.means[:, None]) @ torch.linalg.inv(roots).mT  # [K, N, c], whitened
    volume = roots.diagonal(dim1=1, dim2=2).log().sum(1) + 0.5 * x.shape[1] * log(2 * pi)
    return mixture.weights.log() - volume - 0.5 * apart.square().sum(2).T


def _likeliest(x: Tensor, shares: Tensor) -> Mixture:
    """The mixture for what each component has of each row, [N, K]. Its mean and covariance are those of x, but for a
    millionth of the variance, which keeps covariances from being singular."""
    size = shares.sum(0).clamp(min=1e-9)
    means = (shares.T @ x) / size[:, None]
    weighted = (x - means[:, None]) * shares.T[:, :, None]  # [K, N, c]
    covariances = weighted.mT @ x / size[:, None, None]  # as sum_n weighted = 0, x need not be centred
    covariances = (covariances + covariances.mT) / 2
    least = 1e-6 * x.var(0, correction=0).mean() + 1e-12
    return Mixture(size / size.sum(), means, covariances + least * torch.eye(x.shape[1], dtype=x.dtype))


def _standard(code: int) -> Mixture:
    one = torch.ones(1, dtype=torch.float64)
    return Mixture(one, torch.zeros(1, code, dtype=torch.float64), torch.eye(code, dtype=torch.float64)[None])

"""A mixture of factor analysers: Gaussians whose covariances are of low rank but for a diagonal. Richardson & Weiss
2018 ("On GANs and GMMs"), arXiv:1805.12462, section 3; Ghahramani & Hinton 1996, "The EM algorithm for mixtures of
factor analyzers". In the plane, with two factors, they are all Gaussians.
"""

from math import log, pi, prod

import torch
from torch import Tensor, nn

from oakleaf.config.types import PositiveFloat, PositiveInt
from oakleaf.networks.kmeans import clusters, component
from oakleaf.networks.layers import Size, height_width

MOST = 100_000_000  # values of the images that the mixture begins from
EACH = 300  # images for each component, as in the authors' code


class FactorAnalysers(nn.Module):
    """x = mean_k + A_k f + noise, f ~ N(0, I), noise ~ N(0, D_k): the density sum_k w_k N(x; mean_k, A_k A_k' + D_k).

    factors: columns of A; at most as many as an image has values. least: sd that the noise has at least, as a share of
    the data's within the clusters that the mixture begins from; without it the likelihood of a pixel that never changes
    has no bound. noise: whether samples have the noise; without it they are the density's no more, but easier on the
    eye. bounded: samples are cut to [-1, 1].
    """

    floor: Tensor  # [], `least` in units of the images' range [-1, 1]

    def __init__(
        self,
        channels: PositiveInt,
        size: Size,
        components: PositiveInt = 50,
        factors: PositiveInt = 5,
        least: PositiveFloat = 0.1,
        noise: bool = True,
        bounded: bool = True,
    ) -> None:
        super().__init__()
        self.shape = (channels, *height_width(size))
        values = prod(self.shape)
        factors = min(factors, values)
        self.least, self.noise, self.bounded = least, noise, bounded
        self.latent = 1 + factors + values
        self.start_from = min(EACH * components, MOST // values)
        self.logit = nn.Parameter(torch.zeros(components))
        self.mean = nn.Parameter(0.5 * torch.randn(components, values))
        self.factors = nn.Parameter(0.1 * torch.randn(components, values, factors))
        self.spread = nn.Parameter(torch.full((components, values), 0.1))  # D = floor^2 + spread^2
        self.register_buffer("floor", torch.tensor(least))

    def forward(self, z: Tensor) -> Tensor:
        """z [B, latent] ~ N(0, I) -> images [B, C, H, W]: the first number chooses the component, then come the factors
        and the noise."""
        factors = self.factors.shape[2]
        chosen = component(z[:, 0].float(), self.logit.softmax(0))
        f, noise = z[:, 1 : 1 + factors], z[:, 1 + factors :]
        x = self.mean[chosen] + (self.factors[chosen] * f[:, None]).sum(2)
        if self.noise:
            x = x + self.variance()[chosen].sqrt() * noise
        x = x.unflatten(1, self.shape)
        return x.clamp(-1, 1) if self.bounded else x

    def log_likelihood(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> log p(x) [B], in nats."""
        return torch.logsumexp(self.joint(x), 1)

    def joint(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> log p(x, k) [B, K], by Woodbury's identity, so that nothing as large as a covariance is
        made, nor as x for each component. In float64: it subtracts large squares.
        """
        wide = torch.float32 if x.device.type == "mps" else torch.float64
        x = x.flatten(1).to(wide)
        mean, factors = self.mean.to(wide), self.factors.to(wide)
        precision = 1 / self.variance().to(wide)  # of the noise, [K, d]
        loaded = factors * precision[:, :, None]  # D^-1 A, [K, d, l]
        inner = torch.eye(factors.shape[2], device=x.device, dtype=wide) + factors.mT @ loaded  # I + A' D^-1 A
        root = torch.linalg.cholesky(inner)
        square = x.square() @ precision.T - 2 * x @ (mean * precision).T + (mean.square() * precision).sum(1)
        # A' D^-1 (x - mean), [K, l, B]
        seen = torch.einsum("kdl,bd->klb", loaded, x) - (loaded * mean[:, :, None]).sum(1)[:, :, None]
        explained = torch.linalg.solve_triangular(root, seen, upper=False).square().sum(1).T
        volume = 2 * root.diagonal(dim1=1, dim2=2).log().sum(1) - precision.log().sum(1)
        gaussian = -0.5 * (square - explained + volume + x.shape[1] * log(2 * pi))
        return gaussian + self.logit.to(wide).log_softmax(0)

    def variance(self) -> Tensor:
        """Of the noise, [K, d]."""
        return self.floor**2 + self.spread.square()

    @torch.no_grad()
    def start(self, images: Tensor) -> None:
        """Each component from a cluster of images [N, C, H, W]: its share, mean, first principal components, and what
        they leave of the variance. As in the authors' code, eitanrich/gans-n-gmms, mfa_utils.py.
        """
        x = images.flatten(1).float()
        label = clusters(x, len(self.logit))
        parts = [x[label == k] for k in range(int(label.max()) + 1)]
        apart = torch.cat([part - part.mean(0) for part in parts])
        self.floor.fill_(self.least * float(apart.square().mean().sqrt()) + 1e-6)
        self.logit.fill_(-10.0)  # for components that are left over
        for k, part in enumerate(parts):
            self.logit[k] = log(len(part) / len(x))
            self.mean[k] = part.mean(0)
            axes = _principal(part - part.mean(0), self.factors.shape[2])
            self.factors[k] = axes + 0.1 * self.floor.cpu() * torch.randn(axes.shape)  # columns of zeros would stay so
            left = part.var(0, correction=0) - axes.square().sum(1) - self.floor.cpu() ** 2
            self.spread[k] = left.clamp(min=(0.1 * float(self.floor)) ** 2).sqrt()


def _principal(x: Tensor, count: int) -> Tensor:
    """Principal axes of centred x [N, d], each as long as its standard deviation: [d, count], zeros where there are
    fewer."""
    some = min(count, *x.shape)
    _, singular, axes = torch.pca_lowrank(x, some, center=False)
    padded = x.new_zeros(x.shape[1], count)
    padded[:, :some] = axes * singular / len(x) ** 0.5
    return padded

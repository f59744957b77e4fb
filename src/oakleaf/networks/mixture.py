"""A mixture of factor analysers: Gaussians whose covariance is a low-rank matrix plus a diagonal one.

For points in the plane, two factors give all Gaussians.

Reference: Richardson & Weiss 2018 ("On GANs and GMMs"), arXiv:1805.12462, section 3; Ghahramani & Hinton 1996, "The EM
algorithm for mixtures of factor analyzers".
"""

from math import log, pi, prod

import torch
from torch import Tensor, nn

from oakleaf.config.types import PositiveFloat, PositiveInt
from oakleaf.networks.kmeans import kmeans, select_component
from oakleaf.networks.layers import Size, height_width

MAX_INITIAL_VALUES = 100_000_000  # values of all images from which the mixture is initialised
IMAGES_PER_COMPONENT = 300  # images from which a component is initialised, as in the authors' code


class FactorAnalysers(nn.Module):
    """Generate images from a mixture of factor analysers, and compute their likelihood.

    A component k gives x = mean_k + A_k f + noise with f from N(0, I) and noise from N(0, D_k), D_k diagonal. The
    density is sum_k w_k N(x; mean_k, A_k A_k' + D_k).

    Args:
        channels: channels of an image.
        size: image size in pixels.
        components: number of components.
        factors: columns of A, at most as many as an image has values.
        least: lower bound of the noise's standard deviation, as a fraction of that of the data within the clusters from
            which the mixture is initialised. Without it the likelihood of a pixel that never changes has no bound.
        noise: whether samples contain the noise. Without it samples look smoother, but do not follow the density.
        bounded: whether samples are clipped to [-1, 1].

    Attributes:
        latent: length of the latent vector z: one number selects the component, then come the factors and the noise.
        initialization_images: number of real images from which `initialize_from` initialises the mixture.

    Reference: Richardson & Weiss 2018, arXiv:1805.12462, section 3.
    """

    floor: Tensor  # [], lower bound of the noise's standard deviation, in units of the images

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
        self.initialization_images = min(IMAGES_PER_COMPONENT * components, MAX_INITIAL_VALUES // values)
        self.logit = nn.Parameter(torch.zeros(components))
        self.mean = nn.Parameter(0.5 * torch.randn(components, values))
        self.factors = nn.Parameter(0.1 * torch.randn(components, values, factors))
        self.spread = nn.Parameter(torch.full((components, values), 0.1))  # D = floor^2 + spread^2
        self.register_buffer("floor", torch.tensor(least))

    def forward(self, z: Tensor) -> Tensor:
        """Generate images.

        Args:
            z: latents [B, latent] from N(0, I); the first number selects the component, then come the factors and the
                noise.

        Returns:
            Images [B, C, H, W], in [-1, 1] if they are bounded.
        """
        factors = self.factors.shape[2]
        component = select_component(z[:, 0].float(), self.logit.softmax(0))
        f, noise = z[:, 1 : 1 + factors], z[:, 1 + factors :]
        x = self.mean[component] + (self.factors[component] * f[:, None]).sum(2)
        if self.noise:
            x = x + self.variance()[component].sqrt() * noise
        x = x.unflatten(1, self.shape)
        return x.clamp(-1, 1) if self.bounded else x

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Compute the log-likelihood of images.

        Args:
            x: images [B, C, H, W].

        Returns:
            log p(x) [B], in nats.
        """
        return torch.logsumexp(self.log_joint(x), 1)

    def log_joint(self, x: Tensor) -> Tensor:
        """Compute log p(x, k), the joint log-density of images and components.

        Woodbury's identity avoids a matrix of the size of a covariance, and a copy of x for each component. The
        computation subtracts large squares, so it is in float64 (float32 on MPS, which has no float64).

        Args:
            x: images [B, C, H, W].

        Returns:
            Log-densities [B, K], in nats.
        """
        dtype = torch.float32 if x.device.type == "mps" else torch.float64
        x = x.flatten(1).to(dtype)
        mean, factors = self.mean.to(dtype), self.factors.to(dtype)
        precision = 1 / self.variance().to(dtype)  # of the noise, [K, d]
        loaded = factors * precision[:, :, None]  # D^-1 A, [K, d, l]
        inner = torch.eye(factors.shape[2], device=x.device, dtype=dtype) + factors.mT @ loaded  # I + A' D^-1 A
        root = torch.linalg.cholesky(inner)
        square = x.square() @ precision.T - 2 * x @ (mean * precision).T + (mean.square() * precision).sum(1)
        # A' D^-1 (x - mean), [K, l, B]
        projected = torch.einsum("kdl,bd->klb", loaded, x) - (loaded * mean[:, :, None]).sum(1)[:, :, None]
        explained = torch.linalg.solve_triangular(root, projected, upper=False).square().sum(1).T
        log_determinant = 2 * root.diagonal(dim1=1, dim2=2).log().sum(1) - precision.log().sum(1)
        gaussian = -0.5 * (square - explained + log_determinant + x.shape[1] * log(2 * pi))
        return gaussian + self.logit.to(dtype).log_softmax(0)

    def variance(self) -> Tensor:
        """Return the variance of the noise, the diagonals of D [K, d]."""
        return self.floor**2 + self.spread.square()

    @torch.no_grad()
    def initialize_from(self, images: Tensor) -> None:
        """Initialise each component from a cluster of real images.

        A component gets its cluster's weight, its mean, its first principal components as factors, and the remaining
        variance as noise.

        Args:
            images: real images [N, C, H, W] in [-1, 1].

        Reference: code eitanrich/gans-n-gmms, mfa_utils.py.
        """
        x = images.flatten(1).float()
        label = kmeans(x, len(self.logit))
        clusters = [x[label == k] for k in range(int(label.max()) + 1)]
        centred = torch.cat([cluster - cluster.mean(0) for cluster in clusters])
        self.floor.fill_(self.least * float(centred.square().mean().sqrt()) + 1e-6)
        self.logit.fill_(-10.0)  # for components without a cluster
        for k, cluster in enumerate(clusters):
            self.logit[k] = log(len(cluster) / len(x))
            self.mean[k] = cluster.mean(0)
            axes = _principal_axes(cluster - cluster.mean(0), self.factors.shape[2])
            # columns of zeros would have no gradient
            self.factors[k] = axes + 0.1 * self.floor.cpu() * torch.randn(axes.shape)
            remaining = cluster.var(0, correction=0) - axes.square().sum(1) - self.floor.cpu() ** 2
            self.spread[k] = remaining.clamp(min=(0.1 * float(self.floor)) ** 2).sqrt()


def _principal_axes(x: Tensor, count: int) -> Tensor:
    """Principal axes [d, count] of centred x [N, d], each as long as its standard deviation.

    Columns are zero if x has fewer axes.
    """
    rank = min(count, *x.shape)
    _, singular, axes = torch.pca_lowrank(x, rank, center=False)
    padded = x.new_zeros(x.shape[1], count)
    padded[:, :rank] = axes * singular / len(x) ** 0.5
    return padded

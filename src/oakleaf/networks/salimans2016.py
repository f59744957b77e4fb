"""The perceptrons that learn MNIST from a hundred labels. Salimans 2016, arXiv:1606.03498, section 5.1; code
openai/improved-gan, train_mnist_feature_matching.py.

Images are in [-1, 1] here and were in [0, 1] there: G maps its sigmoid onto [-1, 1], D maps its input back.
"""

from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from oakleaf.config.types import NonNegativeFloat, PositiveInt
from oakleaf.networks.layers import Size, height_width
from oakleaf.round import CriticOutput


class WeightNorm(nn.Module):
    """A linear map with weights g v / |v|, |v| for each unit. Salimans & Kingma 2016, arXiv:1602.07868, eq. (2).

    meets: the first batch that it sees in training sets g and b so that each unit has mean 0 and variance 1 on it
    (section 3). scaled: g is learned.
    """

    g: Tensor  # [units]

    def __init__(self, inputs: PositiveInt, units: PositiveInt, scaled: bool = False, meets: bool = True) -> None:
        super().__init__()
        self.v = nn.Parameter(0.1 * torch.randn(units, inputs))  # small, so that it soon turns: the code
        self.b = nn.Parameter(torch.zeros(units))
        if scaled:
            self.g = nn.Parameter(torch.ones(units))
        else:
            self.register_buffer("g", torch.ones(units))
        self.met = not meets

    def forward(self, x: Tensor) -> Tensor:
        """x [B, inputs] -> [B, units]"""
        if self.training and not self.met:
            self.meet(x)
        return linear(x, self.v) * (self.g * self._per_length()) + self.b

    def _per_length(self) -> Tensor:
        """1 / |v|, [units]; not by `norm`, whose backward pass takes twice as long."""
        return self.v.square().sum(1).rsqrt()

    @torch.no_grad()
    def meet(self, x: Tensor) -> None:
        """Set g and b by a batch."""
        seen = (linear(x, self.v) * self._per_length()).to(self.b.dtype)
        mean, deviation = seen.mean(0), seen.var(0, correction=0).clamp(min=1e-8).sqrt()
        self.g.copy_(1 / deviation)
        self.b.copy_(-mean / deviation)
        self.met = True

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.met)

    def set_extra_state(self, state: Tensor) -> None:
        self.met = bool(state)


class GaussianNoise(nn.Module):
    """x + sd N(0, I), in training alone."""

    def __init__(self, sd: NonNegativeFloat) -> None:
        super().__init__()
        self.sd = sd

    def forward(self, x: Tensor) -> Tensor:
        return x + self.sd * torch.randn_like(x) if self.training and self.sd else x


class Generator(nn.Module):
    """Batch-normalised softplus layers, then a sigmoid for each value of the image."""

    def __init__(
        self, latent: PositiveInt, channels: PositiveInt, size: Size, hidden: tuple[int, ...] = (500, 500)
    ) -> None:
        super().__init__()
        self.shape = (channels, *height_width(size))
        widths = [latent, *hidden]
        layers = [layer for i, o in pairwise(widths) for layer in (_Normed(i, o), nn.Softplus())]
        self.layers = nn.Sequential(*layers, WeightNorm(widths[-1], prod(self.shape), scaled=True, meets=False))
        for module in self.modules():
            if isinstance(module, (nn.Linear, WeightNorm)):
                nn.init.xavier_uniform_(module.weight if isinstance(module, nn.Linear) else module.v)

    def forward(self, z: Tensor) -> Tensor:
        """z [B, latent] -> [B, C, H, W] in [-1, 1]"""
        return 2 * self.layers(z).sigmoid().unflatten(1, self.shape) - 1


class _Normed(nn.Module):
    """A linear map, normalised over the batch; with a bias and, as in the authors' code, without a gain."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, units, bias=False)
        self.norm = nn.BatchNorm1d(units, eps=1e-6, affine=False)
        self.b = nn.Parameter(torch.zeros(units))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x)) + self.b


class Discriminator(nn.Module):
    """Rectified, weight-normalised layers with Gaussian noise on what each of them sees, then a logit for each of
    `classes` classes.

    "Fake" is the (K+1)-th class, whose logit is fixed at 0, so that D(x) = Z / (Z + 1) with Z = sum exp logits, and the
    score is log Z (section 5). Features are the last hidden layer, before its noise. meets: its layers begin from 500
    real images (`WeightNorm`).
    """

    def __init__(
        self,
        channels: PositiveInt,
        size: Size,
        classes: PositiveInt,
        hidden: tuple[int, ...] = (1000, 500, 250, 250, 250),
        noise_input: NonNegativeFloat = 0.3,
        noise_hidden: NonNegativeFloat = 0.5,
        meets: bool = True,
    ) -> None:
        super().__init__()
        widths = [channels * prod(height_width(size)), *hidden]
        noises = [noise_input, *[noise_hidden] * (len(hidden) - 1)]
        layers = [
            layer
            for (i, o), sd in zip(pairwise(widths), noises)
            for layer in (GaussianNoise(sd), WeightNorm(i, o, meets=meets), nn.ReLU())
        ]
        self.layers = nn.Sequential(*layers)
        self.classes = nn.Sequential(
            GaussianNoise(noise_hidden), WeightNorm(widths[-1], classes, scaled=True, meets=meets)
        )
        self.start_from = 500 if meets else 0  # the code

    @torch.no_grad()
    def start(self, images: Tensor) -> None:
        """Images [N, C, H, W] set each layer's scale and bias."""
        training = self.training
        self.train()(images.to(next(self.parameters()).device))
        self.train(training)

    def forward(self, x: Tensor) -> CriticOutput:
        """x [B, C, H, W] -> score [B], classes [B, K], features [B, f]"""
        features = self.layers((x.flatten(1) + 1) / 2)
        classes = self.classes(features).float()
        return CriticOutput(classes.logsumexp(1), classes, features=features)

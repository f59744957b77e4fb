"""The multilayer perceptrons of "Improved techniques for training GANs", which learn MNIST from a hundred labels.

Images are in [-1, 1] instead of [0, 1]: the generator maps its sigmoid to [-1, 1], the discriminator maps its input to
[0, 1].

Reference: Salimans 2016, arXiv:1606.03498, section 5.1; code openai/improved-gan, train_mnist_feature_matching.py.
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
    """A linear layer with weight normalisation: the weights of each unit are g v / |v|.

    Args:
        inputs: input features.
        units: output features.
        scaled: whether g is learned.
        data_dependent_init: whether the first batch in training mode sets g and b, so that each unit has mean 0 and
            variance 1 on it. Whether this has happened is part of the state dict.

    Attributes:
        initialized: whether g and b have their initial values.

    Reference: Salimans & Kingma 2016, arXiv:1602.07868, eq. (2); initialisation: section 3.
    """

    g: Tensor  # [units]

    def __init__(
        self, inputs: PositiveInt, units: PositiveInt, scaled: bool = False, data_dependent_init: bool = True
    ) -> None:
        super().__init__()
        # small, so that a few updates change the direction of v: the authors' code
        self.v = nn.Parameter(0.1 * torch.randn(units, inputs))
        self.b = nn.Parameter(torch.zeros(units))
        if scaled:
            self.g = nn.Parameter(torch.ones(units))
        else:
            self.register_buffer("g", torch.ones(units))
        self.initialized = not data_dependent_init

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, inputs] to features [B, units]."""
        if self.training and not self.initialized:
            self.initialize(x)
        return linear(x, self.v) * (self.g * self._inverse_length()) + self.b

    def _inverse_length(self) -> Tensor:
        """1 / |v|, [units]; not by `norm`, whose backward pass takes twice as long."""
        return self.v.square().sum(1).rsqrt()

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Set g and b so that each unit has mean 0 and variance 1 on a batch.

        Args:
            x: features [B, inputs].
        """
        output = (linear(x, self.v) * self._inverse_length()).to(self.b.dtype)
        mean, deviation = output.mean(0), output.var(0, correction=0).clamp(min=1e-8).sqrt()
        self.g.copy_(1 / deviation)
        self.b.copy_(-mean / deviation)
        self.initialized = True

    def get_extra_state(self) -> Tensor:
        """Return `initialized` as a tensor, for the state dict."""
        return torch.tensor(self.initialized)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore `initialized` from the state dict."""
        self.initialized = bool(state)


class GaussianNoise(nn.Module):
    """Add Gaussian noise to the features, in training mode only.

    Args:
        sd: standard deviation of the noise.
    """

    def __init__(self, sd: NonNegativeFloat) -> None:
        super().__init__()
        self.sd = sd

    def forward(self, x: Tensor) -> Tensor:
        """Add noise to features [B, ...]; the output has the same shape."""
        return x + self.sd * torch.randn_like(x) if self.training and self.sd else x


class Generator(nn.Module):
    """Generate images by batch-normalised softplus layers and a weight-normalised sigmoid output.

    Args:
        latent: length of the latent vector z.
        channels: channels of an image.
        size: image size in pixels.
        hidden: units of the hidden layers.

    Reference: Salimans 2016, arXiv:1606.03498, section 5.1; code train_mnist_feature_matching.py.
    """

    def __init__(
        self, latent: PositiveInt, channels: PositiveInt, size: Size, hidden: tuple[int, ...] = (500, 500)
    ) -> None:
        super().__init__()
        self.shape = (channels, *height_width(size))
        widths = [latent, *hidden]
        layers = [layer for i, o in pairwise(widths) for layer in (_BatchNormLinear(i, o), nn.Softplus())]
        output = WeightNorm(widths[-1], prod(self.shape), scaled=True, data_dependent_init=False)
        self.layers = nn.Sequential(*layers, output)
        for module in self.modules():
            if isinstance(module, (nn.Linear, WeightNorm)):
                nn.init.xavier_uniform_(module.weight if isinstance(module, nn.Linear) else module.v)

    def forward(self, z: Tensor) -> Tensor:
        """Generate images.

        Args:
            z: latents [B, latent].

        Returns:
            Images [B, C, H, W] in [-1, 1].
        """
        return 2 * self.layers(z).sigmoid().unflatten(1, self.shape) - 1


class _BatchNormLinear(nn.Module):
    """A linear layer with batch normalisation; as in the authors' code with a bias and without a gain."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, units, bias=False)
        self.norm = nn.BatchNorm1d(units, eps=1e-6, affine=False)
        self.b = nn.Parameter(torch.zeros(units))

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, inputs] to features [B, units]."""
        return self.norm(self.linear(x)) + self.b


class Discriminator(nn.Module):
    """Classify images by weight-normalised ReLU layers with Gaussian noise on their inputs.

    The network has a logit for each of K classes. "Fake" is class K + 1, whose logit is fixed at 0, so that
    D(x) = Z / (Z + 1) with Z = sum exp(logits); the score is log Z (section 5).

    Args:
        channels: channels of an image.
        size: image size in pixels.
        classes: number of classes K.
        hidden: units of the hidden layers.
        noise_input: standard deviation of the noise on the image, in units of [0, 1].
        noise_hidden: standard deviation of the noise on hidden features.
        data_dependent_init: whether scales and biases are initialised from 500 real images (`WeightNorm`).

    Attributes:
        initialization_images: number of real images from which `initialize_from` initialises the network.

    Reference: Salimans 2016, arXiv:1606.03498, sections 5 and 5.1; code train_mnist_feature_matching.py.
    """

    per_sample = True

    def __init__(
        self,
        channels: PositiveInt,
        size: Size,
        classes: PositiveInt,
        hidden: tuple[int, ...] = (1000, 500, 250, 250, 250),
        noise_input: NonNegativeFloat = 0.3,
        noise_hidden: NonNegativeFloat = 0.5,
        data_dependent_init: bool = True,
    ) -> None:
        super().__init__()
        widths = [channels * prod(height_width(size)), *hidden]
        noises = [noise_input, *[noise_hidden] * (len(hidden) - 1)]
        layers = [
            layer
            for (i, o), sd in zip(pairwise(widths), noises)
            for layer in (GaussianNoise(sd), WeightNorm(i, o, data_dependent_init=data_dependent_init), nn.ReLU())
        ]
        self.layers = nn.Sequential(*layers)
        self.classes = nn.Sequential(
            GaussianNoise(noise_hidden),
            WeightNorm(widths[-1], classes, scaled=True, data_dependent_init=data_dependent_init),
        )
        self.initialization_images = 500 if data_dependent_init else 0  # the authors' code

    @torch.no_grad()
    def initialize_from(self, images: Tensor) -> None:
        """Initialise the scale and the bias of each layer from real images.

        Args:
            images: real images [N, C, H, W] in [-1, 1].
        """
        training = self.training
        self.train()(images.to(next(self.parameters()).device))
        self.train(training)

    def forward(self, x: Tensor) -> CriticOutput:
        """Classify images.

        Args:
            x: images [B, C, H, W].

        Returns:
            Scores [B], logits of the classes [B, K], and features [B, f], the last hidden layer without its noise.
        """
        features = self.layers((x.flatten(1) + 1) / 2)
        classes = self.classes(features).float()
        return CriticOutput(classes.logsumexp(1), classes, features=features)

"""The convolutional networks of ALI, for every image size that a DCGAN supports.

Encoder and generator mirror each other and use batch normalisation. D(x, z) processes x and z separately and then
together, with maxout and dropout and without normalisation. As in the paper, there is one 5 x 5 convolution at full
size, and strided 4 x 4 convolutions double the channels. Differences from the paper: there are no other convolutions of
stride 1, the strides continue to a map of 4 to 7 pixels, and the weights are initialised as DCGAN's or, in D, by He's
scheme (standard deviation 0.01 in the paper).

Reference: Dumoulin 2016, arXiv:1606.00704, appendix A (CIFAR-10); code IshmaelBelghazi/ALI,
experiments/ali_cifar10.py.
"""

from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from oakleaf.config.types import Fraction, NonNegativeFloat, PositiveInt
from oakleaf.networks.dcgan import downsample_layer, upsample_layer
from oakleaf.networks.layers import Size, dcgan_stages, init_dcgan_, norm
from oakleaf.round import CriticOutput


class Generator(nn.Module):
    """Generate images by transposed convolutions, followed by a 5 x 5 and two 1 x 1 convolutions at full size.

    Args:
        latent: length of the latent vector z.
        channels: channels of an image.
        size: image size in pixels.
        width: channels at full size; they double with each halving.
        slope: negative slope of the leaky ReLUs.

    Reference: Dumoulin 2016, arXiv:1606.00704, appendix A.
    """

    def __init__(
        self,
        latent: PositiveInt,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 32,
        slope: NonNegativeFloat = 0.1,
    ) -> None:
        super().__init__()
        count, base = dcgan_stages(size)
        widths = [width << k for k in reversed(range(count + 1))]
        shape = (widths[0], *base)
        self.layers = nn.Sequential(
            nn.Linear(latent, prod(shape), bias=False),
            _normalised(nn.Unflatten(1, shape), widths[0], slope),
            *[_normalised(upsample_layer(i, o, 4, bias=False), o, slope) for i, o in pairwise(widths)],
            _normalised(nn.Conv2d(width, width, 5, padding=2, bias=False), width, slope),
            _normalised(nn.Conv2d(width, width, 1, bias=False), width, slope),
            nn.Conv2d(width, channels, 1),
        )
        init_dcgan_(self, normalised=True)

    def forward(self, z: Tensor) -> Tensor:
        """Generate images.

        Args:
            z: latents [B, latent].

        Returns:
            Images [B, C, H, W] in [-1, 1].
        """
        return 2 * self.layers(z).sigmoid() - 1


class Encoder(nn.Module):
    """Encode images by q(z | x), a Gaussian with a diagonal covariance.

    In training mode z is sampled by the reparametrisation of eq. (2); in eval mode z is the mean.

    Args:
        latent: length of the latent vector z.
        channels: channels of an image.
        size: image size in pixels.
        width: channels at full size; they double with each halving.
        hidden: units of the fully connected layer before the Gaussian.
        slope: negative slope of the leaky ReLUs.

    Reference: Dumoulin 2016, arXiv:1606.00704, eq. (2) and appendix A.
    """

    def __init__(
        self,
        latent: PositiveInt,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 32,
        hidden: PositiveInt = 512,
        slope: NonNegativeFloat = 0.1,
    ) -> None:
        super().__init__()
        count, base = dcgan_stages(size)
        widths = [width << k for k in range(count + 1)]
        self.layers = nn.Sequential(
            _normalised(nn.Conv2d(channels, width, 5, padding=2, bias=False), width, slope),
            *[_normalised(downsample_layer(i, o, 4, bias=False), o, slope) for i, o in pairwise(widths)],
            nn.Flatten(),
            _normalised(nn.Linear(widths[-1] * prod(base), hidden, bias=False), hidden, slope, flat=True),
        )
        self.gaussian = nn.Linear(hidden, 2 * latent)
        init_dcgan_(self, normalised=True)

    def features(self, x: Tensor) -> Tensor:
        """Compute the features of the layer before the output.

        Args:
            x: images [B, C, H, W].

        Returns:
            Features [B, hidden].
        """
        return self.layers(x)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Encode images.

        Args:
            x: images [B, C, H, W].

        Returns:
            Latents z [B, latent].
        """
        mean, log_variance = self.gaussian(self.features(x)).chunk(2, 1)
        return mean + (log_variance / 2).exp() * torch.randn_like(mean) if self.training else mean


class Discriminator(nn.Module):
    """Score pairs (x, z) by convolutions of x, linear layers of z and joint linear layers, all with two-piece maxout.

    Args:
        latent: length of the latent vector z.
        channels: channels of an image.
        size: image size in pixels.
        width: channels of x at full size; they double with each halving.
        hidden: units of the two layers of z.
        joint: units of the two joint layers.
        dropout_input: dropout probability of x and z.
        dropout_hidden: dropout probability of the inputs of all other layers.

    Reference: Dumoulin 2016, arXiv:1606.00704, appendix A.
    """

    per_sample = True

    def __init__(
        self,
        latent: PositiveInt,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 32,
        hidden: PositiveInt = 512,
        joint: PositiveInt = 1024,
        dropout_input: Fraction = 0.2,
        dropout_hidden: Fraction = 0.5,
    ) -> None:
        super().__init__()
        count, base = dcgan_stages(size)
        widths = [width << k for k in range(count + 1)]
        dropout = nn.Dropout(dropout_hidden)
        self.image = nn.Sequential(
            nn.Dropout(dropout_input),
            _Maxout2(nn.Conv2d(channels, 2 * width, 5, padding=2)),
            *[
                layer
                for i, o in pairwise(widths)
                for layer in (dropout, _Maxout2(downsample_layer(i, 2 * o, 4, bias=True)))
            ],
            nn.Flatten(),
        )
        self.latent = nn.Sequential(
            nn.Dropout(dropout_input),
            _Maxout2(nn.Linear(latent, 2 * hidden)),
            dropout,
            _Maxout2(nn.Linear(hidden, 2 * hidden)),
        )
        inputs = widths[-1] * prod(base) + hidden
        self.joint = nn.Sequential(
            dropout, _Maxout2(nn.Linear(inputs, 2 * joint)), dropout, _Maxout2(nn.Linear(joint, 2 * joint)), dropout
        )
        self.score = nn.Linear(joint, 1)
        init_dcgan_(self, normalised=False)

    def forward(self, x: Tensor, z: Tensor) -> CriticOutput:
        """Score pairs of image and latent.

        Args:
            x: images [B, C, H, W].
            z: latents [B, latent].

        Returns:
            Scores [B] and features [B, joint], the inputs of the last layer.
        """
        features = self.joint(torch.cat([self.image(x), self.latent(z)], 1))
        return CriticOutput(self.score(features).squeeze(1).float(), features=features)


class _Maxout2(nn.Module):
    """Maxout over the two halves of a layer's channels. Goodfellow 2013, arXiv:1302.4389, eq. (1)."""

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, ...] to [B, C, ...], where the layer has 2 C output channels."""
        return torch.maximum(*self.linear(x).chunk(2, 1))


def _normalised(layer: nn.Module, channels: int, slope: float, flat: bool = False) -> nn.Sequential:
    return nn.Sequential(layer, norm("batch", channels, flat), nn.LeakyReLU(slope))

"""The networks of plug & play generative networks (PPGN): a generator of codes, and denoising auto-encoders.

Reference: Nguyen 2016, arXiv:1612.00005, figure 2; layers from the authors' generator.prototxt (noiseless).
"""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from oakleaf.config.types import NonNegativeFloat, NonNegativeInt, PositiveInt
from oakleaf.networks.layers import Size, dcgan_stages, init_he_


class Generator(nn.Module):
    """Generate images from codes: fully connected layers, then transposed convolutions that double the map.

    After each doubling but the last two there is a convolution of kernel 3. No layer is normalised. The last layer has
    a tanh; the authors' has none, because their images are not in [-1, 1].

    Args:
        code: length of the code.
        channels: of an image.
        size: image size in pixels.
        width: channels of the last map before the image; they double towards the smallest one, up to 8 times.
        hidden: units of each fully connected layer.
        layers: number of fully connected layers before the first map.
        slope: negative slope of the leaky ReLUs.

    Reference: the authors' prototxt: fc4096 three times, 256 channels at 4 and 8 px, then 128, 64, 32; slope 0.3.
    """

    def __init__(
        self,
        code: PositiveInt,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 32,
        hidden: PositiveInt = 4096,
        layers: NonNegativeInt = 3,
        slope: NonNegativeFloat = 0.3,
    ) -> None:
        super().__init__()
        count, base = dcgan_stages(size)
        widths = [width << min(k, 3) for k in reversed(range(count))]  # of the maps before each doubling
        units = [code, *[hidden] * layers, widths[0] * prod(base)]
        modules: list[nn.Module] = []
        for inputs, outputs in pairwise(units):
            modules += [nn.Linear(inputs, outputs), nn.LeakyReLU(slope)]
        modules.append(nn.Unflatten(1, (widths[0], *base)))
        for number, (inputs, outputs) in enumerate(pairwise(widths)):
            modules += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(slope)]
            if number < count - 2:
                modules += [nn.Conv2d(outputs, outputs, 3, padding=1), nn.LeakyReLU(slope)]
        modules.append(nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1))
        self.layers = nn.Sequential(*modules)
        _init_(self, slope)

    def forward(self, y: Tensor) -> Tensor:
        """Map codes [B, code] to images [B, C, H, W] in [-1, 1]."""
        return self.layers(y).tanh()


class CodeDenoiser(nn.Module):
    """Reconstruct codes from noisy ones by fully connected layers with ReLUs: R_h of PPGN-h.

    Args:
        code: length of the code.
        hidden: units of each hidden layer, each a share of the code's length.

    Reference: Nguyen 2016, arXiv:1612.00005, section 3.3; there 4096-2048-1024-500-1024-2048-4096 units.
    """

    def __init__(self, code: PositiveInt, hidden: Sequence[float] = (0.5, 0.25, 0.125, 0.25, 0.5)) -> None:
        super().__init__()
        units = [code, *(max(1, round(share * code)) for share in hidden), code]
        modules: list[nn.Module] = []
        for inputs, outputs in pairwise(units):
            modules += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.layers = nn.Sequential(*modules[:-1])
        init_he_(self, 0.0)

    def forward(self, code: Tensor) -> Tensor:
        """Map noisy codes [B, code] to codes [B, code]."""
        return self.layers(code)


class ImageDenoiser(nn.Module):
    """Reconstruct images from noisy ones, of any size, by convolutions at the full and at half the size: R_x of PPGN-x.

    Args:
        channels: of an image.
        width: channels of the maps of full size; those of half the size have twice as many.

    Reference: Nguyen 2016, arXiv:1612.00005, section 3.1.
    """

    def __init__(self, channels: PositiveInt, width: PositiveInt = 32) -> None:
        super().__init__()
        self.large = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU())
        self.small = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU(), nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.ReLU()
        )
        self.output = nn.Sequential(
            nn.Conv2d(3 * width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, channels, 3, padding=1)
        )
        _init_(self, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map noisy images [B, C, H, W] to images [B, C, H, W]."""
        large = self.large(x)
        small = interpolate(self.small(large), x.shape[2:])
        return self.output(torch.cat([large, small], 1))


def _init_(network: nn.Module, slope: float) -> None:
    """Initialise linear layers by He's scheme, convolutions too; biases with 0."""
    init_he_(network, slope)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, a=slope)
            if isinstance(module, nn.ConvTranspose2d):
                # an output depends on kernel^2 / stride^2 inputs of each channel, not on those that torch counts
                fan = module.in_channels * module.kernel_size[0] ** 2 / module.stride[0] ** 2
                nn.init.normal_(module.weight, 0.0, (2 / (1 + slope**2) / fan) ** 0.5)
            assert module.bias is not None
            nn.init.zeros_(module.bias)

"""Critics that are auto-encoders, and BEGAN's generator.

The score of an image is minus its reconstruction error: the better an image is reconstructed, the more real it is.

Reference: Zhao 2016 (EBGAN), arXiv:1609.03126, section 2.3; Berthelot 2017 (BEGAN), arXiv:1703.10717, section 3.5.
"""

from itertools import pairwise
from math import ceil, log2, prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from oakleaf.config.types import Fraction, PositiveInt
from oakleaf.errors import UserError
from oakleaf.networks.layers import Size, height_width, nearest_size
from oakleaf.round import CriticOutput

Error = Literal["norm", "squared", "absolute"]
BASE_SIDE = 8  # pixels of the shorter side below which BEGAN's networks do not halve: section 4.1


class AutoEncoder(nn.Module):
    """Score images by minus the error with which an auto-encoder reconstructs them.

    Args:
        encoder: maps images [B, C, H, W] to codes [B, f].
        decoder: maps codes [B, f] to images [B, C, H, W].
        error: reconstruction error of an image: "norm" (the Euclidean norm, as in EBGAN), "squared" or "absolute" (the
            mean squared or mean absolute difference over its values).

    Reference: Zhao 2016, arXiv:1609.03126, section 2.3.
    """

    per_sample = True

    def __init__(self, encoder: nn.Module, decoder: nn.Module, error: Error) -> None:
        super().__init__()
        self.encoder, self.decoder, self.error = encoder, decoder, error

    def forward(self, x: Tensor) -> CriticOutput:
        """Score images.

        Args:
            x: images [B, C, H, W].

        Returns:
            Scores [B], minus the reconstruction error, and features [B, f], the codes.
        """
        code = self.encoder(x)
        return CriticOutput(-self.reconstruction_error(self.decoder(code), x), features=code)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Encode and decode images.

        Args:
            x: images [B, C, H, W].

        Returns:
            Reconstructions [B, C, H, W].
        """
        return self.decoder(self.encoder(x))

    def reconstruction_error(self, reconstruction: Tensor, x: Tensor) -> Tensor:
        """Compute the error of each reconstruction.

        Args:
            reconstruction: reconstructed images [B, C, H, W].
            x: the original images [B, C, H, W].

        Returns:
            Errors [B].
        """
        difference = (reconstruction.float() - x.float()).flatten(1)
        if self.error == "norm":
            return difference.norm(dim=1)
        return (difference.square() if self.error == "squared" else difference.abs()).mean(1)


class MLPAutoEncoder(AutoEncoder):
    """Score images by an auto-encoder with a multilayer perceptron as encoder and one linear layer as decoder.

    Args:
        channels: channels of an image.
        size: image size in pixels.
        hidden: units of the encoder's layers. In the paper's grid nLayerD is their number and sizeD their width.
        dropout: dropout probability after each hidden layer.
        error: reconstruction error, as in `AutoEncoder`.

    Reference: Zhao 2016, arXiv:1609.03126, section 4.1 and table 1.
    """

    def __init__(
        self,
        channels: PositiveInt,
        size: Size,
        hidden: tuple[int, ...] = (1024, 1024),
        dropout: Fraction = 0.0,
        error: Error = "norm",
    ) -> None:
        shape = (channels, *height_width(size))
        widths = [prod(shape), *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for i, o in pairwise(widths):
            layers += [nn.Linear(i, o), nn.ReLU(), nn.Dropout(dropout)]
        decoder = nn.Sequential(nn.Linear(widths[-1], widths[0]), nn.Unflatten(1, shape))
        super().__init__(nn.Sequential(*layers), decoder, error)


class ConvAutoEncoder(AutoEncoder):
    """Score images by BEGAN's convolutional auto-encoder.

    The encoder has pairs of convolutions, and between the pairs convolutions of stride 2 with `width` more channels
    each time; its code is linear. The decoder is a `Decoder`.

    Args:
        channels: channels of an image.
        size: image size in pixels.
        width: channels at full size.
        code: length of the code.
        skips: whether the decoder has skip connections.
        error: reconstruction error, as in `AutoEncoder`.

    Reference: Berthelot 2017, arXiv:1703.10717, section 3.5 and figure 1.
    """

    def __init__(
        self,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 64,
        code: PositiveInt = 64,
        skips: bool = True,
        error: Error = "absolute",
    ) -> None:
        count, base = began_stages(size)
        layers: list[nn.Module] = [_convolution(channels, width), *_convolution_pair(width)]
        for step in range(1, count + 1):
            outputs = width * (step + 1)
            layers += [_convolution(width * step, outputs, stride=2), *_convolution_pair(outputs)]
        layers += [nn.Flatten(), nn.Linear(width * (count + 1) * base[0] * base[1], code)]
        super().__init__(nn.Sequential(*layers), Decoder(code, channels, size, width, skips, tanh=False), error)


class Decoder(nn.Module):
    """Generate images as BEGAN does: a linear layer to a small map, then pairs of convolutions at doubled sizes.

    Maps are doubled by nearest-neighbour interpolation. The same network is BEGAN's generator and the decoder of its
    critic.

    Args:
        latent: length of the latent vector z.
        channels: channels of an image.
        size: image size in pixels.
        width: channels of all maps.
        skips: whether the first map is enlarged and appended to the input of each further pair (section 3.5).
        tanh: whether the output goes through tanh. The paper has none, but the images of a generator have to be in
            [-1, 1].

    Reference: Berthelot 2017, arXiv:1703.10717, section 3.5 and figure 1.
    """

    def __init__(
        self,
        latent: PositiveInt,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 64,
        skips: bool = True,
        tanh: bool = True,
    ) -> None:
        super().__init__()
        count, base = began_stages(size)
        self.base = nn.Sequential(nn.Linear(latent, width * base[0] * base[1]), nn.Unflatten(1, (width, *base)))
        self.skips = skips
        first = nn.Sequential(*_convolution_pair(width))
        further = [nn.Sequential(*_convolution_pair(width, width * (1 + skips))) for _ in range(count)]
        self.stages = nn.ModuleList([first, *further])
        self.image = nn.Sequential(nn.Conv2d(width, channels, 3, padding=1), nn.Tanh() if tanh else nn.Identity())

    def forward(self, z: Tensor) -> Tensor:
        """Generate images.

        Args:
            z: latents [B, latent].

        Returns:
            Images [B, C, H, W], in [-1, 1] if there is a tanh.
        """
        x = base = self.base(z)
        for stage in self.stages:
            if stage is not self.stages[0]:
                x, base = (interpolate(maps, scale_factor=2.0, mode="nearest") for maps in (x, base))
                x = torch.cat([x, base], 1) if self.skips else x
            x = stage(x)
        return self.image(x)


def began_stages(size: Size) -> tuple[int, tuple[int, int]]:
    """Compute how often BEGAN's networks halve an image of a given size, and the size of their smallest map.

    An image is halved until its shorter side has 8 pixels or a side is odd.

    Args:
        size: image size in pixels.

    Returns:
        The number of halvings, and (h, w) of the smallest map.

    Raises:
        UserError: the shorter side of the smallest map has more than 16 pixels.
    """
    height, width = height_width(size)
    count = 0
    while min(height, width) > BASE_SIDE and height % 2 == width % 2 == 0:
        height, width, count = height // 2, width // 2, count + 1
    if min(height, width) > 2 * BASE_SIDE:
        multiple = 1 << ceil(log2(min(height_width(size)) / (2 * BASE_SIDE)))
        raise UserError(
            f"data.size={size}: it can be halved only down to {height} x {width} pixels, and 16 are the maximum; "
            f"nearest: {nearest_size(size, multiple)}"
        )
    return count, (height, width)


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.ELU())


def _convolution_pair(width: int, inputs: int | None = None) -> list[nn.Module]:
    return [_convolution(inputs or width, width), _convolution(width, width)]

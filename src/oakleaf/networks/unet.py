"""The U-Net, which translates an image to an image of the same size.

Reference: Isola 2016 (pix2pix), arXiv:1611.07004, section 6.1.1.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from oakleaf.config.types import Fraction, NonNegativeFloat, PositiveInt
from oakleaf.errors import UserError
from oakleaf.networks.layers import AlwaysDropout, MapNorm, Size, height_width, init_dcgan_, nearest_size, norm


class UNet(nn.Module):
    """Translate images by an encoder and a decoder of strided convolutions, with skip connections between them.

    The encoder halves the image `depth` times. Its maps have width, 2 width, 4 width, then 8 width channels; the
    innermost map has `bottleneck`.

    Args:
        inputs: channels of the input image.
        channels: channels of the output image.
        size: image size in pixels.
        width: channels of the first map.
        depth: number of halvings; null: as many as possible, for 256 pixels 8 (down to one pixel).
        bottleneck: channels of the innermost map; null: as many as the width gives.
        norm: normalisation of all maps but the innermost and the outermost. "instance" is what the paper's batch
            normalisation is at its batch size 1, in training and in test (section 6.2).
        dropout: dropout probability of the decoder's first three maps. Dropout is the only noise, so it stays active
            when samples are drawn (section 3.1).
        slope: negative slope of the encoder's leaky ReLUs.
        skips: whether each map of the encoder is appended to the decoder's map of the same size; without skips the
            network is an encoder-decoder.

    Raises:
        UserError: a side is not divisible by 2^depth.

    Reference: Isola 2016, arXiv:1611.07004, sections 3.1, 6.1.1 and 6.2.
    """

    def __init__(
        self,
        inputs: PositiveInt,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 64,
        depth: PositiveInt | None = None,
        bottleneck: PositiveInt | None = None,
        norm: MapNorm = "instance",
        dropout: Fraction = 0.5,
        slope: NonNegativeFloat = 0.2,
        skips: bool = True,
    ) -> None:
        super().__init__()
        self.inputs, self.channels, self.depth = inputs, channels, depth or _max_depth(size)
        _check_divisible(size, self.depth)
        self.skips = skips
        widths = [min(width << k, 8 * width) for k in range(self.depth)]
        widths[-1] = bottleneck or widths[-1]
        self.down = nn.ModuleList([nn.Conv2d(inputs, widths[0], 4, 2, 1)])
        for k, (i, o) in enumerate(pairwise(widths)):
            last = k == self.depth - 2  # a map of one pixel has no variance
            self.down.append(_block(nn.LeakyReLU(slope), nn.Conv2d(i, o, 4, 2, 1), "none" if last else norm, o))
        self.up = nn.ModuleList()
        for k, (i, o) in enumerate(pairwise([*reversed(widths), 0][: self.depth])):
            appended = i if skips and k else 0
            probability = dropout if k < 3 else 0.0
            convolution = nn.ConvTranspose2d(i + appended, o, 4, 2, 1)
            self.up.append(_block(nn.ReLU(), convolution, norm, o, probability))
        appended = widths[0] if skips and self.depth > 1 else 0
        self.image = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(widths[0] + appended, channels, 4, 2, 1), nn.Tanh())
        init_dcgan_(self, normalised=norm != "none")

    def forward(self, y: Tensor) -> Tensor:
        """Translate images.

        Args:
            y: input images [B, inputs, H, W]; H and W may be any multiples of 2^depth.

        Returns:
            Images [B, channels, H, W] in [-1, 1].
        """
        maps = [y]
        for layer in self.down:
            maps.append(layer(maps[-1]))
        x = maps.pop()
        for layer in self.up:
            x = layer(x)
            if self.skips:
                x = torch.cat([x, maps.pop()], 1)
        return self.image(x)

    @property
    def multiple(self) -> int:
        """The number that has to divide both sides of an input, in pixels."""
        return 1 << self.depth


def _block(
    activation: nn.Module, convolution: nn.Module, kind: MapNorm, channels: int, dropout: float = 0
) -> nn.Module:
    layers = [activation, convolution, norm(kind, channels)]
    return nn.Sequential(*layers, *([AlwaysDropout(dropout)] if dropout else []))


def _max_depth(size: Size) -> int:
    """How often both sides can be halved, at least 1."""
    height, width = height_width(size)
    return max(1, ((height | width) & -(height | width)).bit_length() - 1)


def _check_divisible(size: Size, depth: int) -> None:
    """Raise a UserError if a side is not divisible by 2^depth."""
    if any(side % (1 << depth) for side in height_width(size)):
        raise UserError(
            f"data.size={size}: a U-Net of depth {depth} halves it {depth} times, so each side must be a multiple of "
            f"{1 << depth}; nearest: {nearest_size(size, 1 << depth, 1 << depth)}"
        )

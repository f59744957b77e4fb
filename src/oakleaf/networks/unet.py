"""From a picture to an image of the same size, through a bottleneck. Isola 2016 (pix2pix), arXiv:1611.07004, section
6.1.1: an encoder and a decoder of strided convolutions, with or without connections between mirrored layers.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from oakleaf.config.types import Fraction, NonNegativeFloat, PositiveInt
from oakleaf.errors import UserError
from oakleaf.networks.layers import AlwaysDropout, MapNorm, Size, dcgan_weights, height_width, norm, rounded


class UNet(nn.Module):
    """Halves the picture `depth` times, the channels being width, 2 width, 4 width, then 8 width, and `bottleneck` in
    the innermost map, and doubles it again.

    depth: null: as often as it goes, for 256 pixels 8 times, down to one. skips: whether the decoder sees each map of
    the encoder beside its own; without them it is an encoder-decoder. dropout: of the decoder's first three maps, and
    the only noise that there is, so it stays when images are made (section 3.1).
    norm: instance is what the paper's batch normalisation is at its batch size, 1, in training and in test alike
    (section 6.2); innermost and outermost maps have none.
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
        self.inputs, self.channels, self.depth = inputs, channels, depth or _depth(size)
        _divisible(size, self.depth)
        self.skips = skips
        widths = [min(width << k, 8 * width) for k in range(self.depth)]
        widths[-1] = bottleneck or widths[-1]
        self.down = nn.ModuleList([nn.Conv2d(inputs, widths[0], 4, 2, 1)])
        for k, (i, o) in enumerate(pairwise(widths)):
            last = k == self.depth - 2  # a map of one pixel has no variance
            self.down.append(_block(nn.LeakyReLU(slope), nn.Conv2d(i, o, 4, 2, 1), "none" if last else norm, o))
        self.up = nn.ModuleList()
        for k, (i, o) in enumerate(pairwise([*reversed(widths), 0][: self.depth])):
            more = i if skips and k else 0
            noise = dropout if k < 3 else 0.0
            self.up.append(_block(nn.ReLU(), nn.ConvTranspose2d(i + more, o, 4, 2, 1), norm, o, noise))
        more = widths[0] if skips and self.depth > 1 else 0
        self.image = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(widths[0] + more, channels, 4, 2, 1), nn.Tanh())
        dcgan_weights(self, normalised=norm != "none")

    def forward(self, y: Tensor) -> Tensor:
        """y [B, inputs, H, W] -> [B, channels, H, W] in [-1, 1]; H and W of any size that 2^depth divides"""
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
        """What has to divide a picture's sides."""
        return 1 << self.depth


def _block(
    activation: nn.Module, convolution: nn.Module, kind: MapNorm, channels: int, dropout: float = 0
) -> nn.Module:
    layers = [activation, convolution, norm(kind, channels)]
    return nn.Sequential(*layers, *([AlwaysDropout(dropout)] if dropout else []))


def _depth(size: Size) -> int:
    """How often a picture can be halved."""
    height, width = height_width(size)
    return max(1, ((height | width) & -(height | width)).bit_length() - 1)


def _divisible(size: Size, depth: int) -> None:
    """Raises:
    UserError: it can't be halved so often.
    """
    if any(side % (1 << depth) for side in height_width(size)):
        raise UserError(
            f"data.size={size}: a U-Net of depth {depth} halves it so often, so each side must be a multiple of "
            f"{1 << depth}; nearest: {rounded(size, 1 << depth, 1 << depth)}"
        )

"""Critics that are auto-encoders: an image is as real as it is given back well. Zhao 2016 (EBGAN), arXiv:1609.03126,
section 2.3, and Berthelot 2017 (BEGAN), arXiv:1703.10717, section 3.5; with BEGAN's generator, which is its decoder.
"""

from itertools import pairwise
from math import ceil, log2, prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from oakleaf.config.types import Fraction, PositiveInt
from oakleaf.errors import UserError
from oakleaf.networks.layers import Size, height_width, rounded
from oakleaf.round import CriticOutput

Error = Literal["norm", "squared", "absolute"]
BASE = 8  # pixels of the shorter side at which the convolutional networks stop halving: BEGAN, section 4.1


class AutoEncoder(nn.Module):
    """A critic from an encoder, x -> code [B, f], and a decoder, code -> x.

    error, of each image: norm = Euclidean, as EBGAN's section 2.3 has it; squared, absolute = mean over its values.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, error: Error) -> None:
        super().__init__()
        self.encoder, self.decoder, self.error = encoder, decoder, error

    def forward(self, x: Tensor) -> CriticOutput:
        """x [B, C, H, W] -> score [B], minus the error; features [B, f], the code"""
        code = self.encoder(x)
        return CriticOutput(-self.distance(self.decoder(code), x), features=code)

    def reconstruct(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> what it makes of it, [B, C, H, W]"""
        return self.decoder(self.encoder(x))

    def distance(self, given: Tensor, x: Tensor) -> Tensor:
        """[B, C, H, W] twice -> [B]"""
        difference = (given.float() - x.float()).flatten(1)
        if self.error == "norm":
            return difference.norm(dim=1)
        return (difference.square() if self.error == "squared" else difference.abs()).mean(1)


class Perceptron(AutoEncoder):
    """Rectified layers with dropout for the encoder, one linear map back. Zhao 2016, section 4.1, table 1: nLayerD is
    how many `hidden` there are, sizeD how wide they are.
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


class Convolutional(AutoEncoder):
    """BEGAN's critic: convolutions in pairs, a stride of two between them with `width` more channels each time, a
    linear code, and the Decoder.
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
        count, base = halved(size)
        layers: list[nn.Module] = [_convolve(channels, width), *_pair(width)]
        for step in range(1, count + 1):
            layers += [_convolve(width * step, width * (step + 1), stride=2), *_pair(width * (step + 1))]
        layers += [nn.Flatten(), nn.Linear(width * (count + 1) * base[0] * base[1], code)]
        super().__init__(nn.Sequential(*layers), Decoder(code, channels, size, width, skips, tanh=False), error)


class Decoder(nn.Module):
    """BEGAN's decoder and generator: a linear map to a base of 8 pixels, then pairs of convolutions, each size twice
    the one before by nearest neighbours.

    skips: the base is enlarged beside what each further pair sees (section 3.5). tanh: at the end; the paper has none,
    but a generator's images are to stay within [-1, 1].
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
        count, base = halved(size)
        self.base = nn.Sequential(nn.Linear(latent, width * base[0] * base[1]), nn.Unflatten(1, (width, *base)))
        self.skips = skips
        first = nn.Sequential(*_pair(width))
        further = [nn.Sequential(*_pair(width, width * (1 + skips))) for _ in range(count)]
        self.stages = nn.ModuleList([first, *further])
        self.image = nn.Sequential(nn.Conv2d(width, channels, 3, padding=1), nn.Tanh() if tanh else nn.Identity())

    def forward(self, z: Tensor) -> Tensor:
        """z [B, latent] -> [B, C, H, W]"""
        x = base = self.base(z)
        for stage in self.stages:
            if stage is not self.stages[0]:
                x, base = (interpolate(maps, scale_factor=2.0, mode="nearest") for maps in (x, base))
                x = torch.cat([x, base], 1) if self.skips else x
            x = stage(x)
        return self.image(x)


def halved(size: Size) -> tuple[int, tuple[int, int]]:
    """How often an image is halved until its shorter side has 8 pixels or is odd, and the base that is left.

    Raises:
        UserError: a base of more than 16 pixels.
    """
    height, width = height_width(size)
    count = 0
    while min(height, width) > BASE and height % 2 == width % 2 == 0:
        height, width, count = height // 2, width // 2, count + 1
    if min(height, width) > 2 * BASE:
        multiple = 1 << ceil(log2(min(height_width(size)) / (2 * BASE)))
        raise UserError(
            f"data.size={size}: it can be halved only down to {height} x {width} pixels, and 16 are the most; "
            f"nearest: {rounded(size, multiple)}"
        )
    return count, (height, width)


def _convolve(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.ELU())


def _pair(width: int, inputs: int | None = None) -> list[nn.Module]:
    return [_convolve(inputs or width, width), _convolve(width, width)]

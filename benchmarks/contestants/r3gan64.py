"""R3GAN's networks of 64 x 64 pixels in plain operations, for `benchmarks/training.py --r3gan`.

Huang 2024, arXiv:2501.05441, config E; code brownvc/R3GAN, R3GAN/Networks.py with train.py's preset FFHQ-64. Given the
same weights they compute what that code computes (`tests/test_benchmarks.py`, where a checkout is named).
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu

from oakleaf.round import CriticOutput

WIDTHS, CARDINALITIES = (768, 768, 768, 768, 384), (96, 96, 96, 96, 48)  # from 4 x 4 to 64 x 64
BLOCKS, EXPANSION = 2, 2
GAIN = math.sqrt(2 / (1 + 0.2**2)) * (BLOCKS * len(WIDTHS)) ** -0.25  # of each block's first two convolutions


class Generator(nn.Module):
    def __init__(self, latent: int, channels: int, size: int) -> None:
        super().__init__()
        self.start = nn.Linear(latent, WIDTHS[0], bias=False)
        self.basis = nn.Parameter(torch.randn(WIDTHS[0], 4, 4))
        stages: list[nn.Module] = [*_blocks(WIDTHS[0], CARDINALITIES[0])]
        for (narrow, wide), groups in zip(pairwise(WIDTHS), CARDINALITIES[1:]):
            stages += [nn.Identity() if narrow == wide else _convolution(narrow, wide, 1), Resampled(up=True)]
            stages += _blocks(wide, groups)
        self.stages = nn.Sequential(*stages, _convolution(WIDTHS[-1], channels, 1))
        nn.init.normal_(self.start.weight, 0.0, latent**-0.5)

    def forward(self, z: Tensor) -> Tensor:
        """z [B, latent] -> [B, C, 64, 64], without a bound"""
        return self.stages(self.basis * self.start(z)[:, :, None, None])


class Discriminator(nn.Module):
    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        widths, groups = WIDTHS[::-1], CARDINALITIES[::-1]
        stages: list[nn.Module] = [_convolution(channels, widths[0], 1)]
        for (wide, narrow), cardinality in zip(pairwise(widths), groups):
            stages += [*_blocks(wide, cardinality), Resampled(up=False)]
            stages += [nn.Identity() if narrow == wide else _convolution(wide, narrow, 1)]
        self.stages = nn.Sequential(*stages, *_blocks(widths[-1], groups[-1]))
        self.basis = _convolution(widths[-1], widths[-1], 4, groups=widths[-1], padding=0)
        self.score = nn.Linear(widths[-1], 1, bias=False)
        nn.init.normal_(self.score.weight, 0.0, widths[-1] ** -0.5)

    def forward(self, x: Tensor) -> CriticOutput:
        """x [B, C, 64, 64] -> score [B]"""
        return CriticOutput(self.score(self.basis(self.stages(x)).flatten(1)).squeeze(1).float())


class Block(nn.Module):
    """x + a bottleneck turned inside out: expanded, convolved in groups, and back."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        inner = width * EXPANSION
        self.expand = _convolution(width, inner, 1, gain=GAIN)
        self.mix = _convolution(inner, inner, 3, groups, gain=GAIN)
        self.back = _convolution(inner, width, 1, gain=0.0)
        self.biases = nn.ParameterList([torch.zeros(inner, 1, 1), torch.zeros(inner, 1, 1)])

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, h, w]"""
        y = leaky_relu(self.expand(x) + self.biases[0], 0.2)
        return x + self.back(leaky_relu(self.mix(y) + self.biases[1], 0.2))


class Resampled(nn.Module):
    """Twice or half the side, through the kernel 1, 2, 1 of theirs, convolved with 1, 1."""

    def __init__(self, up: bool) -> None:
        super().__init__()
        line = torch.tensor([1.0, 3.0, 3.0, 1.0])
        kernel = line.outer(line) / 64
        self.up = up
        self.register_buffer("kernel", (4 * kernel if up else kernel)[None, None])

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w]"""
        kernel = self.kernel.to(x.dtype).expand(x.shape[1], 1, 4, 4)  # type: ignore[operator]
        return (conv_transpose2d if self.up else conv2d)(x, kernel, stride=2, padding=1, groups=x.shape[1])


def _blocks(width: int, groups: int) -> list[nn.Module]:
    return [Block(width, groups) for _ in range(BLOCKS)]


def _convolution(
    inputs: int, outputs: int, kernel: int, groups: int = 1, gain: float = 1.0, padding: int | None = None
) -> nn.Module:
    side = (kernel - 1) // 2 if padding is None else padding
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=side, groups=groups, bias=False)
    nn.init.normal_(convolution.weight, 0.0, gain / math.sqrt(inputs / groups * kernel**2))
    return convolution

"""Deep convolutional GAN. Radford 2015, arXiv:1511.06434, section 3: strided and fractionally strided convolutions in
place of pooling; batch normalisation in both networks, but not at G's output and D's input; no hidden fully connected
layers; ReLU and tanh in G, LeakyReLU in D.
"""

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from oakleaf.networks.layers import Norm, Size, dcgan_weights, halvings, norm
from oakleaf.numbers import Count, NonNegative
from oakleaf.round import Verdict

Upsample = Literal["transposed", "nearest", "bilinear", "shuffle"]


class Generator(nn.Module):
    """Projects z onto a base of 4 to 7 pixels and doubles it up to the image, halving the channels each time.

    upsample: how it doubles: `double`.
    """

    def __init__(
        self,
        latent: Count,
        channels: Count,
        size: Size,
        width: Count = 64,
        kernel: Count = 4,
        norm: Norm = "batch",
        upsample: Upsample = "transposed",
    ) -> None:
        super().__init__()
        count, base = halvings(size)
        widths = [width << k for k in reversed(range(count))]  # e.g. 512, 256, 128, 64
        self.start = (widths[0], *base)
        self.project = nn.Linear(latent, widths[0] * base[0] * base[1], bias=norm == "none")
        self.stem = _activated(norm, widths[0], nn.ReLU())
        self.stages = nn.Sequential(
            *[
                nn.Sequential(double(i, o, kernel, upsample, bias=norm == "none"), *_activated(norm, o, nn.ReLU()))
                for i, o in pairwise(widths)
            ]
        )
        self.image = nn.Sequential(double(widths[-1], channels, kernel, upsample), nn.Tanh())
        dcgan_weights(self, normalised=norm != "none")

    def forward(self, z: Tensor) -> Tensor:
        """z [B, latent] -> [B, C, H, W] in [-1, 1]"""
        x = self.stem(self.project(z).unflatten(1, self.start))
        return self.image(self.stages(x))


class Discriminator(nn.Module):
    """Halves the image down to the base, doubling the channels each time; the last map goes to one logit."""

    def __init__(
        self,
        channels: Count,
        size: Size,
        width: Count = 64,
        kernel: Count = 4,
        norm: Norm = "batch",
        slope: NonNegative = 0.2,
    ) -> None:
        super().__init__()
        count, base = halvings(size)
        widths = [width << k for k in range(count)]  # e.g. 64, 128, 256, 512
        self.stem = nn.Sequential(_halve(channels, width, kernel, bias=True), nn.LeakyReLU(slope))
        self.stages = nn.Sequential(
            *[
                nn.Sequential(_halve(i, o, kernel, bias=norm == "none"), *_activated(norm, o, nn.LeakyReLU(slope)))
                for i, o in pairwise(widths)
            ]
        )
        self.score = nn.Linear(widths[-1] * base[0] * base[1], 1)
        dcgan_weights(self, normalised=norm != "none")

    def forward(self, x: Tensor) -> Verdict:
        """x [B, C, H, W] -> score [B]"""
        return Verdict(self.score(self.stages(self.stem(x)).flatten(1)).squeeze(1).float())


def _activated(kind: Norm, channels: int, activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(norm(kind, channels), activation)


def double(inputs: int, outputs: int, kernel: int, upsample: Upsample = "transposed", bias: bool = True) -> nn.Module:
    """From h x w to exactly 2h x 2w, for an even or odd kernel.

    transposed: a fractionally strided convolution (Radford 2015, section 3). nearest, bilinear: enlarged, then
    convolved (Odena 2016, "Deconvolution and checkerboard artifacts", doi:10.23915/distill.00003). shuffle: four maps
    for each output, interleaved (Shi 2016, arXiv:1609.05158, eq. (4)).
    """
    if upsample == "transposed":
        padding, extra = (kernel - 1) // 2, kernel % 2
        return nn.ConvTranspose2d(inputs, outputs, kernel, 2, padding, output_padding=extra, bias=bias)
    if upsample == "shuffle":
        return nn.Sequential(_keep(inputs, 4 * outputs, kernel, bias), nn.PixelShuffle(2))
    return nn.Sequential(nn.Upsample(scale_factor=2, mode=upsample), _keep(inputs, outputs, kernel, bias))


def _keep(inputs: int, outputs: int, kernel: int, bias: bool) -> nn.Module:
    """A convolution from h x w to h x w; an even kernel has its further pixel to the right and below."""
    before = (kernel - 1) // 2
    after = kernel - 1 - before
    convolution = nn.Conv2d(inputs, outputs, kernel, bias=bias)
    return nn.Sequential(nn.ZeroPad2d((before, after, before, after)), convolution)


def _halve(inputs: int, outputs: int, kernel: int, bias: bool) -> nn.Module:
    """A strided convolution from h x w to h/2 x w/2."""
    return nn.Conv2d(inputs, outputs, kernel, 2, (kernel - 1) // 2, bias=bias)

"""Deep convolutional GAN. Radford 2015, arXiv:1511.06434, section 3: strided and fractionally strided convolutions in
place of pooling; batch normalisation in both networks, but not at G's output and D's input; no hidden fully connected
layers; ReLU and tanh in G, LeakyReLU in D.
"""

from itertools import pairwise

from torch import Tensor, nn

from oakleaf.networks.layers import Norm, Size, dcgan_weights, halvings, norm
from oakleaf.numbers import Count, NonNegative
from oakleaf.round import Verdict


class Generator(nn.Module):
    """Projects z onto a base of 4 to 7 pixels and doubles it up to the image, halving the channels each time."""

    def __init__(
        self, latent: Count, channels: Count, size: Size, width: Count = 64, kernel: Count = 4, norm: Norm = "batch"
    ) -> None:
        super().__init__()
        count, base = halvings(size)
        widths = [width << k for k in reversed(range(count))]  # e.g. 512, 256, 128, 64
        self.start = (widths[0], *base)
        self.project = nn.Linear(latent, widths[0] * base[0] * base[1], bias=norm == "none")
        self.stem = _activated(norm, widths[0], nn.ReLU())
        self.stages = nn.Sequential(
            *[
                nn.Sequential(_double(i, o, kernel, bias=norm == "none"), *_activated(norm, o, nn.ReLU()))
                for i, o in pairwise(widths)
            ]
        )
        self.image = nn.Sequential(_double(widths[-1], channels, kernel, bias=True), nn.Tanh())
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


def _double(inputs: int, outputs: int, kernel: int, bias: bool) -> nn.Module:
    """A fractionally strided convolution from h x w to exactly 2h x 2w, for an even or odd kernel."""
    padding, extra = (kernel - 1) // 2, kernel % 2
    return nn.ConvTranspose2d(inputs, outputs, kernel, 2, padding, output_padding=extra, bias=bias)


def _halve(inputs: int, outputs: int, kernel: int, bias: bool) -> nn.Module:
    """A strided convolution from h x w to h/2 x w/2."""
    return nn.Conv2d(inputs, outputs, kernel, 2, (kernel - 1) // 2, bias=bias)

"""ResNets of 32 x 32 pixels for `benchmarks/training.py`: those of WGAN-GP's CIFAR-10.

Gulrajani 2017, arXiv:1704.00028, section 5.2 and its code, gan_cifar_resnet.py: width 128, no normalisation in the
critic. Width 256 of G and norm = batch are those that PyTorch-StudioGAN's configuration of WGAN-GP comes to.
"""

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from oakleaf.networks.layers import Norm, norm
from oakleaf.round import CriticOutput


class Generator(nn.Module):
    """Three blocks that double 4 x 4 pixels."""

    def __init__(self, latent: int, channels: int, size: int, width: int = 128, norm: Norm = "batch") -> None:
        super().__init__()
        self.start = nn.Sequential(nn.Linear(latent, width * 16), nn.Unflatten(1, (width, 4, 4)))
        self.blocks = nn.Sequential(*(Up(width, norm) for _ in range(3)))
        self.image = nn.Sequential(*_before(norm, width), nn.Conv2d(width, channels, 3, padding=1), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        """z [B, latent] -> [B, C, 32, 32] in [-1, 1]"""
        return self.image(self.blocks(self.start(z)))


class Up(nn.Module):
    """Normalised, activated, doubled and convolved, twice; the short cut is doubled and mixed."""

    def __init__(self, width: int, norm: Norm) -> None:
        super().__init__()
        self.first = nn.Sequential(*_before(norm, width), nn.Upsample(scale_factor=2), _convolved(width, width))
        self.second = nn.Sequential(*_before(norm, width), _convolved(width, width))
        self.short = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, h, w] -> [B, width, 2h, 2w]"""
        return self.second(self.first(x)) + self.short(interpolate(x, scale_factor=2))


class Discriminator(nn.Module):
    """Two blocks that halve the image, two that keep 8 x 8, and a sum over places."""

    def __init__(self, channels: int, size: int, width: int = 128, norm: Norm = "none") -> None:
        super().__init__()
        blocks = [Down(width, width, norm, halves=halves) for halves in (True, False, False)]
        self.blocks = nn.Sequential(Down(channels, width, norm, halves=True, first=True), *blocks, nn.ReLU())
        self.score = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> CriticOutput:
        """x [B, C, 32, 32] -> score [B], features [B, width]"""
        features = self.blocks(x).sum((2, 3))
        return CriticOutput(self.score(features).squeeze(1).float(), features=features)


class Down(nn.Module):
    """first: takes the image, so nothing is activated before; the short cut is halved before it is mixed."""

    def __init__(self, inputs: int, width: int, kind: Norm, halves: bool, first: bool = False) -> None:
        super().__init__()
        self.halves, self.early = halves, first
        before = [] if first else _before(kind, inputs)
        self.change = nn.Sequential(*before, _convolved(inputs, width), *_before(kind, width), _convolved(width, width))
        self.short = nn.Sequential(norm(kind, inputs), nn.Conv2d(inputs, width, 1)) if halves else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, h, w] -> [B, width, h, w], or half of h and w"""
        change = self.change(x)
        if not self.halves:
            return change + x
        return avg_pool2d(change, 2) + (self.short(avg_pool2d(x, 2)) if self.early else avg_pool2d(self.short(x), 2))


def _before(kind: Norm, width: int) -> list[nn.Module]:
    return [norm(kind, width), nn.ReLU()]


def _convolved(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 3, padding=1)

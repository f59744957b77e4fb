"""Blocks that the families of networks share."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from oakleaf.config.types import Size, height_width
from oakleaf.errors import UserError

MapNorm = Literal["batch", "layer", "instance", "none"]
Norm = Literal["batch", "layer", "instance", "spectral", "none"]  # a critic's, which may be one of weights


def norm(kind: Norm, channels: int, flat: bool = False, affine: bool = True) -> nn.Module:
    """A normalisation of feature maps [B, channels, h, w], or of `flat` features [B, channels]. `layer` is over all of
    C, h, w of one sample, as in Gulrajani 2017, arXiv:1704.00028, section 4. `spectral` is one of weights, not of maps.
    """
    if kind == "batch":
        return (nn.BatchNorm1d if flat else nn.BatchNorm2d)(channels, affine=affine)
    if kind == "layer":
        return nn.GroupNorm(1, channels, affine=affine)
    if kind == "instance" and not flat:  # a single value has no variance
        return nn.InstanceNorm2d(channels, affine=affine)
    return nn.Identity()


class ConditionalNorm(nn.Module):
    """A normalisation whose gain and bias are linear in the condition y. de Vries 2017, arXiv:1707.00683, section
    2.2.
    """

    def __init__(self, kind: Norm, channels: int, classes: int, flat: bool = False) -> None:
        super().__init__()
        self.norm = norm(kind, channels, flat, affine=False)
        self.gain, self.bias = (nn.Linear(classes, channels) for _ in range(2))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x [B, channels, ...], y [B, classes]"""
        ones = (1,) * (x.dim() - 2)
        gain, bias = (layer(y).unflatten(1, (-1, *ones)) if ones else layer(y) for layer in (self.gain, self.bias))
        return self.norm(x) * (1 + gain) + bias


class Bottleneck(nn.Module):
    """x + three convolutions of 1, 3 and 3 pixels, with a quarter of the channels between them; then the activation. As
    in the code of Reed 2016, arXiv:1605.05396 (reedscot/icml2016, main_cls_int.lua), and of StackGAN.
    """

    def __init__(self, channels: int, kind: Norm, activation: nn.Module) -> None:
        super().__init__()
        few, bias = max(1, channels // 4), kind in ("none", "spectral")
        self.change = nn.Sequential(
            *(nn.Conv2d(channels, few, 1, bias=bias), norm(kind, few), activation),
            *(nn.Conv2d(few, few, 3, padding=1, bias=bias), norm(kind, few), activation),
            *(nn.Conv2d(few, channels, 3, padding=1, bias=bias), norm(kind, channels)),
        )
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, h, w]"""
        return self.activation(x + self.change(x))


def concat_condition(x: Tensor, y: Tensor | None) -> Tensor:
    """x [B, C, ...] with y [B, K] as further channels, the same at every pixel: [B, C + K, ...]."""
    assert y is not None
    maps = y.to(x.dtype)[:, :, *[None] * (x.dim() - 2)]
    return torch.cat([x, maps.expand(-1, -1, *x.shape[2:])], 1)


def spectral(network: nn.Module) -> None:
    """Every weight divided by its largest singular value, by one power iteration a pass. Miyato 2018, arXiv:1802.05957,
    section 2.1 and Algorithm 1.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.utils.parametrizations.spectral_norm(module)


def halvings(size: Size) -> tuple[int, tuple[int, int]]:
    """How often an image can be halved, and the base that is left, its shorter side from 4 to 7 pixels.

    64 -> 4 halvings and (4, 4); 28 -> 2 and (7, 7), the base of the DCGAN paper's MNIST networks.

    Raises:
        UserError: a side that is not its base times that power of two, or fewer than two halvings.
    """
    height, width = height_width(size)
    count = int(math.log2(max(min(height, width), 1) / 4)) if min(height, width) >= 4 else 0
    base = (height >> count, width >> count)
    if count < 2 or (base[0] << count, base[1] << count) != (height, width):
        near = min((b << k for b in (4, 5, 6, 7) for k in range(2, 9)), key=lambda n: abs(n - min(height, width)))
        power = near // halvings(near)[1][0]
        raise UserError(
            f"data.size={size}: a DCGAN doubles a small base of 4 to 7 pixels at least twice, so the shorter side must "
            "be one of 16, 32, 64, 128, 256 (or 5, 6, 7 times a power of two, such as 28), and the longer one a "
            f"multiple of the same power; nearest: {rounded(size, power, near)}"
        )
    return count, base


def sides(size: Size, stages: int = 0) -> list[tuple[int, int]]:
    """Height and width of the image and of each map below it, each half as large as the one before. stages: how many
    there are, odd sides rounded up, as in the code of Radford 2015 (28, 14, 7, 4, 2 for 4); 0: see `halvings`.

    Raises:
        UserError: a map would be smaller than a pixel, or see `halvings`.
    """
    found = [height_width(size)]
    for _ in range(stages or halvings(size)[0]):
        height, width = found[-1]
        found.append((-(-height // 2), -(-width // 2)))
    if found.count((1, 1)) > 1:
        raise UserError(f"stages={stages}: {size} pixels are halved to one before; at most {found.index((1, 1))}")
    return found


def rounded(size: Size, multiple: int, least: int = 1) -> str:
    """The nearest size whose sides are multiples, none below `least`, as it is written on the command line."""
    height, width = (max(least, round(side / multiple) * multiple) for side in height_width(size))
    return f"{height}" if height == width else f"[{height},{width}]"


class Maxout(nn.Module):
    """The largest of `pieces` linear maps for each unit. Goodfellow 2013, arXiv:1302.4389, eq. (1)."""

    def __init__(self, inputs: int, units: int, pieces: int) -> None:
        super().__init__()
        self.units, self.pieces = units, pieces
        self.linear = nn.Linear(inputs, units * pieces)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, inputs] -> [B, units]"""
        return self.linear(x).unflatten(1, (self.units, self.pieces)).amax(2)


class AlwaysDropout(nn.Dropout):
    """Dropout that stays when images are drawn: a generator's noise (Isola 2016, arXiv:1611.07004, section 3.1)."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, self.p, training=True)


@torch.no_grad()
def uniform_weights(network: nn.Module, limit: float) -> None:
    """Linear weights ~ U(-limit, limit), biases 0."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.uniform_(module.weight, -limit, limit)
            nn.init.zeros_(module.bias)


@torch.no_grad()
def dcgan_weights(network: nn.Module, normalised: bool) -> None:
    """Weights ~ N(0, 0.02) and gains ~ N(1, 0.02), as in the code of Radford 2015, arXiv:1511.06434, section 4.

    Without normalisation such small weights let the signal die out, so there He's initialisation (2015,
    arXiv:1502.01852, eq. (15), slope 0.2) takes their place.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            if normalised:
                nn.init.normal_(module.weight, 0.0, 0.02)
            else:
                _he(module)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)) and module.affine:
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)


@torch.no_grad()
def he_weights(network: nn.Module, slope: float) -> None:
    """Linear weights by He 2015, arXiv:1502.01852, eq. (15), for rectifiers of that slope; biases 0."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, a=slope)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _he(module: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> None:
    weight = module.weight
    if isinstance(module, nn.ConvTranspose2d):  # each output pixel sees kernel^2 / stride^2 inputs of each channel
        inputs = weight[:, 0].numel() / (module.stride[0] * module.stride[1])
    else:
        inputs = weight[0].numel()
    nn.init.normal_(weight, 0.0, math.sqrt(2 / (1 + 0.2**2) / inputs))

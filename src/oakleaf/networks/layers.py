"""Layers, initialisation schemes and image-size helpers that several network families share."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from oakleaf.config.types import Size, height_width
from oakleaf.errors import UserError

MapNorm = Literal["batch", "layer", "instance", "none"]
Norm = Literal["batch", "layer", "instance", "spectral", "none"]  # for a discriminator, which may normalise its weights


def norm(kind: Norm, channels: int, flat: bool = False, affine: bool = True) -> nn.Module:
    """Create a normalisation layer.

    Args:
        kind: "batch", "layer" (over all of C, h, w of one sample), "instance" (over h, w of each channel of one
            sample) or "none". "spectral" normalises weights and not features, so it gives an identity layer here; see
            `apply_spectral_norm`.
        channels: channels of the feature maps [B, channels, h, w], or the number of `flat` features [B, channels].
        flat: whether the features have no spatial dimensions. Instance normalisation of flat features is the identity,
            because a single value has no variance.
        affine: whether the layer has a learned gain and bias.

    Returns:
        The normalisation layer, or `nn.Identity`.

    Reference: Gulrajani 2017, arXiv:1704.00028, section 4 (layer normalisation in a critic).
    """
    if kind == "batch":
        return (nn.BatchNorm1d if flat else nn.BatchNorm2d)(channels, affine=affine)
    if kind == "layer":
        return nn.GroupNorm(1, channels, affine=affine)
    if kind == "instance" and not flat:
        return nn.InstanceNorm2d(channels, affine=affine)
    return nn.Identity()


class ConditionalNorm(nn.Module):
    """Normalise features, with a gain and a bias that are linear functions of the condition y.

    Args:
        kind: the normalisation, as in `norm`.
        channels: channels of the features.
        classes: width of the condition y.
        flat: whether the features have no spatial dimensions.
        bias: whether the two linear functions have biases.

    Reference: de Vries 2017, arXiv:1707.00683, section 2.2.
    """

    def __init__(self, kind: Norm, channels: int, classes: int, flat: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.norm = norm(kind, channels, flat, affine=False)
        self.gain, self.bias = (nn.Linear(classes, channels, bias=bias) for _ in range(2))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Normalise x and apply the gain and the bias that belong to y.

        Args:
            x: features [B, channels, ...].
            y: conditions [B, classes].

        Returns:
            Features of the shape of x.
        """
        ones = (1,) * (x.dim() - 2)
        gain, bias = (layer(y).unflatten(1, (-1, *ones)) if ones else layer(y) for layer in (self.gain, self.bias))
        return self.norm(x) * (1 + gain) + bias


class Bottleneck(nn.Module):
    """A residual block: x + three convolutions, then the activation.

    The convolutions have kernels of 1, 3 and 3 pixels and a quarter of the channels between them.

    Args:
        channels: channels of input and output.
        kind: normalisation after each convolution, as in `norm`.
        activation: activation between the convolutions and after the sum.

    Reference: Reed 2016, arXiv:1605.05396, code reedscot/icml2016, main_cls_int.lua; StackGAN (Zhang 2016,
    arXiv:1612.03242) uses the same block.
    """

    def __init__(self, channels: int, kind: Norm, activation: nn.Module) -> None:
        super().__init__()
        inner, bias = max(1, channels // 4), kind in ("none", "spectral")
        self.change = nn.Sequential(
            *(nn.Conv2d(channels, inner, 1, bias=bias), norm(kind, inner), activation),
            *(nn.Conv2d(inner, inner, 3, padding=1, bias=bias), norm(kind, inner), activation),
            *(nn.Conv2d(inner, channels, 3, padding=1, bias=bias), norm(kind, channels)),
        )
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, channels, h, w] to features of the same shape."""
        return self.activation(x + self.change(x))


class Maxout(nn.Module):
    """A maxout layer: each unit is the maximum of several linear functions of the input.

    Args:
        inputs: input features.
        units: output features.
        pieces: linear functions for each unit.

    Reference: Goodfellow 2013, arXiv:1302.4389, eq. (1).
    """

    def __init__(self, inputs: int, units: int, pieces: int) -> None:
        super().__init__()
        self.units, self.pieces = units, pieces
        self.linear = nn.Linear(inputs, units * pieces)

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, inputs] to features [B, units]."""
        return self.linear(x).unflatten(1, (self.units, self.pieces)).amax(2)


class AlwaysDropout(nn.Dropout):
    """Dropout that stays active in eval mode.

    A generator whose only noise is dropout needs it when samples are drawn, too.

    Reference: Isola 2016, arXiv:1611.07004, section 3.1.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Set random elements of x [...] to zero and scale the others by 1 / (1 - p)."""
        return nn.functional.dropout(x, self.p, training=True)


def concat_condition(x: Tensor, y: Tensor | None) -> Tensor:
    """Append the condition to the features as further channels, the same at every pixel.

    Args:
        x: features [B, C, ...].
        y: conditions [B, K].

    Returns:
        Features [B, C + K, ...].
    """
    assert y is not None
    maps = y.to(x.dtype)[:, :, *[None] * (x.dim() - 2)]
    return torch.cat([x, maps.expand(-1, -1, *x.shape[2:])], 1)


def apply_spectral_norm(network: nn.Module, eps: float = 1e-12, except_in: tuple[type, ...] | type = ()) -> None:
    """Divide every weight of the network by its largest singular value, estimated by one power iteration per pass.

    Args:
        network: its convolutions, transposed convolutions and linear layers get the parametrisation, in place.
        eps: smallest norm that the vectors of the power iteration are divided by.
        except_in: classes of modules whose weights stay as they are.

    Reference: Miyato 2018, arXiv:1802.05957, section 2.1 and Algorithm 1.
    """
    parts = [part for module in network.modules() if isinstance(module, except_in) for part in module.modules()]
    excluded = {id(part) for part in parts}
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)) and id(module) not in excluded:
            nn.utils.parametrizations.spectral_norm(module, eps=eps)


def nearest_size(size: Size, multiple: int, minimum: int = 1) -> str:
    """Return the nearest smaller size whose sides are multiples of a number, as it is written on the command line.

    It is not larger than the given size, unless a side is below the minimum, because pictures are not enlarged.

    Args:
        size: the size that does not fit, in pixels.
        multiple: number that has to divide both sides.
        minimum: smallest side that is allowed, in pixels.

    Returns:
        "32" for a square, "[32,48]" for other sizes.
    """
    height, width = (max(minimum, side // multiple * multiple) for side in height_width(size))
    return f"{height}" if height == width else f"[{height},{width}]"


def dcgan_stages(size: Size, least: int = 2) -> tuple[int, tuple[int, int]]:
    """Compute how many stages of stride 2 a DCGAN of an image size has, and the size of its smallest feature map.

    The shorter side of the smallest map has 4 to 7 pixels. 64 pixels give 4 stages and (4, 4); 28 pixels give 2 stages
    and (7, 7), as in the MNIST networks of the DCGAN paper.

    Args:
        size: image size in pixels.
        least: smallest number of stages.

    Returns:
        The number of stages, and (h, w) of the smallest map.

    Raises:
        UserError: a side is not that of the smallest map times 2^stages, or there would be fewer stages than `least`.
    """
    height, width = height_width(size)
    count = int(math.log2(max(min(height, width), 1) / 4)) if min(height, width) >= 4 else 0
    base = (height >> count, width >> count)
    if count < least or (base[0] << count, base[1] << count) != (height, width):
        sides = [b << k for k in range(least, 9) for b in (4, 5, 6, 7)]
        nearest = max([side for side in sides if side <= min(height, width)], default=sides[0])
        power = nearest // dcgan_stages(nearest, least)[1][0]
        kind, times = ("a DCGAN", "twice") if least == 2 else ("this network", "once")
        powers = ", ".join(str(4 << k) for k in range(least, 7))
        raise UserError(
            f"data.size={size}: {kind} doubles a small base of 4 to 7 pixels at least {times}, so the shorter side "
            f"must be one of {powers} (or 5, 6, 7 times a power of two, such as 28), and the longer one a "
            f"multiple of the same power; nearest: {nearest_size(size, power, nearest)}"
        )
    return count, base


def feature_map_sizes(size: Size, stages: int = 0) -> list[tuple[int, int]]:
    """List the sizes of the image and of all feature maps below it, each half as large as the one before.

    Args:
        size: image size in pixels.
        stages: number of stages of stride 2; odd sides are rounded up, as in the code of Radford 2015 (28, 14, 7, 4, 2
            for 4 stages). 0: the number that `dcgan_stages` gives.

    Returns:
        (h, w) of the image, then of each map, `stages` + 1 sizes.

    Raises:
        UserError: a map would be smaller than one pixel; for `stages` = 0 see `dcgan_stages`.
    """
    sizes = [height_width(size)]
    for _ in range(stages or dcgan_stages(size)[0]):
        height, width = sizes[-1]
        sizes.append((-(-height // 2), -(-width // 2)))
    if sizes.count((1, 1)) > 1:
        raise UserError(
            f"stages={stages}: images of {size} pixels reach one pixel earlier; use at most {sizes.index((1, 1))}"
        )
    return sizes


def map_sizes(size: Size, least: int = 1) -> list[tuple[int, int]]:
    """Return (h, w) of all maps of an image size, the smallest first.

    Raises:
        UserError: the size is no base of 4 to 7 pixels that is doubled at least `least` times.
    """
    stages, base = dcgan_stages(size, least)
    return [(base[0] << k, base[1] << k) for k in range(stages + 1)]


def map_widths(size: Size, width: int, capacity: int) -> list[int]:
    """Return the channels of all maps, the smallest map first: `capacity` / side, but at most `width`.

    The side is counted from 4 pixels on, whatever the smallest map is.
    """
    return [max(1, min(width, capacity // (4 << k))) for k in range(len(map_sizes(size)))]


@torch.no_grad()
def init_uniform_(network: nn.Module, limit: float) -> None:
    """Initialise the weights of all linear layers from U(-limit, limit), and their biases with 0, in place."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.uniform_(module.weight, -limit, limit)
            nn.init.zeros_(module.bias)


@torch.no_grad()
def init_dcgan_(network: nn.Module, normalised: bool) -> None:
    """Initialise a network as a DCGAN, in place: weights from N(0, 0.02), gains from N(1, 0.02), biases with 0.

    Without normalisation such small weights let the signal vanish. Weights are then drawn by He's scheme for leaky
    ReLUs of slope 0.2.

    Args:
        network: its convolutions, linear layers and normalisation layers are initialised.
        normalised: whether the network has normalisation layers.

    Reference: Radford 2015, arXiv:1511.06434, section 4 and the authors' code; He 2015, arXiv:1502.01852, eq. (15).
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            if normalised:
                nn.init.normal_(module.weight, 0.0, 0.02)
            else:
                _init_he_convolution_(module)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)) and module.affine:
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)


@torch.no_grad()
def init_he_(network: nn.Module, slope: float) -> None:
    """Initialise all linear layers by He's scheme for leaky ReLUs of the given slope, in place; biases with 0.

    Reference: He 2015, arXiv:1502.01852, eq. (15).
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, a=slope)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _init_he_convolution_(module: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> None:
    """He's scheme for slope 0.2 by the number of inputs that one output depends on."""
    weight = module.weight
    if isinstance(module, nn.ConvTranspose2d):  # an output pixel depends on kernel^2 / stride^2 inputs of each channel
        inputs = weight[:, 0].numel() / (module.stride[0] * module.stride[1])
    else:
        inputs = weight[0].numel()
    nn.init.normal_(weight, 0.0, math.sqrt(2 / (1 + 0.2**2) / inputs))

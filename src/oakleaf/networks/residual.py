"""The residual networks of SNGAN, of its projection discriminator, and of the self-attention GAN (SAGAN).

The generator doubles a small map by residual blocks up to the image. The discriminator halves the image, adds up the
features of all places and computes one logit. Blocks, attention and initialisation are also those of
`oakleaf.networks.biggan`.

Reference: Miyato 2018, arXiv:1802.05957, appendix B.4, tables 4 to 6; Miyato & Koyama 2018, arXiv:1802.05637, section 6
and figure 14; Zhang 2018, arXiv:1805.08318.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, relu

from oakleaf.config.types import NonNegativeInt, PositiveInt, Size, height_width
from oakleaf.errors import UserError
from oakleaf.networks.layers import ConditionalNorm, MapNorm, Norm, apply_spectral_norm, dcgan_stages, norm
from oakleaf.round import CriticOutput


class SelfAttention(nn.Module):
    """Self-attention over all places of a map: x + gamma * o(g(x) softmax(theta(x)^T phi(x))).

    phi and g are pooled to a quarter of the places, as in the authors' code. The logits are not divided by the square
    root of their width. gamma begins at 0, so that at first the layer is the identity.

    Args:
        channels: channels of the maps. theta and phi have an eighth of them, g a half, but at least one.

    Reference: Zhang 2018, arXiv:1805.08318, eq. (1) to (3).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        keys, values = max(1, channels // 8), max(1, channels // 2)
        self.theta = nn.Conv2d(channels, keys, 1, bias=False)
        self.phi = nn.Conv2d(channels, keys, 1, bias=False)
        self.g = nn.Conv2d(channels, values, 1, bias=False)
        self.o = nn.Conv2d(values, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, channels, h, w], h and w at least 2, to features of the same shape."""
        query = self.theta(x).flatten(2)  # [B, keys, h w]
        key, value = max_pool2d(self.phi(x), 2).flatten(2), max_pool2d(self.g(x), 2).flatten(2)  # [B, ..., h w / 4]
        weights = (query.mT @ key).float().softmax(2).to(value.dtype)  # [B, h w, h w / 4]
        return x + self.gamma * self.o((value @ weights.mT).unflatten(2, x.shape[2:]))


class UpBlock(nn.Module):
    """A residual block that doubles a map: norm, ReLU, nearest upsampling, c3, norm, ReLU, c3, plus the shortcut.

    The 1 x 1 convolution of the shortcut stands before its upsampling, with which it commutes.

    Args:
        inputs: channels of the input.
        outputs: channels of the output, and between the convolutions.
        kind: normalisation.
        classes: width of the condition of the normalisation's gain and bias; 0: none.
        bias: whether the gain and the bias of the normalisation, as functions of the condition, have constant parts.

    Reference: Miyato 2018, arXiv:1802.05957, figure 8 and its code.
    """

    def __init__(self, inputs: int, outputs: int, kind: MapNorm = "batch", classes: int = 0, bias: bool = True) -> None:
        super().__init__()
        self.norms = nn.ModuleList([_norm(kind, channels, classes, bias) for channels in (inputs, outputs)])
        self.convolutions = nn.ModuleList([nn.Conv2d(i, outputs, 3, padding=1) for i in (inputs, outputs)])
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map features [B, inputs, h, w], and conditions y [B, classes], to [B, outputs, 2h, 2w]."""
        h = self.convolutions[0](doubled(relu(_normalised(self.norms[0], x, y))))
        h = self.convolutions[1](relu(_normalised(self.norms[1], h, y)))
        return h + doubled(self.shortcut(x))


class DownBlock(nn.Module):
    """A residual block of a discriminator: ReLU, c3, ReLU, c3, average pooling, plus the shortcut.

    The 1 x 1 convolution of the shortcut stands after its pooling, with which it commutes. Without halving and with
    equal channels the shortcut is the identity.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        halves: whether the map is halved.
        first: whether it is the first block, which has no ReLU before its first convolution, since its input is an
            image.
        wide: whether there are `outputs` channels between the convolutions, or `inputs`.
        kind: normalisation before each ReLU.

    Reference: Miyato 2018, arXiv:1802.05957, figure 8 and its code; wide: Brock 2018, arXiv:1809.11096, appendix B.
    """

    def __init__(
        self, inputs: int, outputs: int, halves: bool, first: bool = False, wide: bool = True, kind: Norm = "spectral"
    ) -> None:
        super().__init__()
        hidden = outputs if wide or first else inputs
        self.first, self.halves = first, halves
        self.norms = nn.ModuleList([nn.Identity() if first else norm(kind, inputs), norm(kind, hidden)])
        self.convolutions = nn.ModuleList(
            [nn.Conv2d(inputs, hidden, 3, padding=1), nn.Conv2d(hidden, outputs, 3, padding=1)]
        )
        needed = halves or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if needed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, inputs, h, w] to [B, outputs, h / 2, w / 2], rounded down, or to [B, outputs, h, w]."""
        h = self.convolutions[0](x if self.first else relu(self.norms[0](x)))
        h = self.convolutions[1](relu(self.norms[1](h)))
        if self.halves:
            h, x = avg_pool2d(h, 2), avg_pool2d(x, 2)
        return h + self.shortcut(x)


class Generator(nn.Module):
    """Generate images: a linear layer to a small map, residual blocks that double it, norm, ReLU, c3 and tanh.

    Args:
        latent: length of the latent vector z.
        channels: channels of an image.
        size: image size in pixels.
        width: channels at full size.
        growth: how many times `width` a map may have at most; channels double with each halving up to this. 1: all maps
            have `width` channels, as in SNGAN's networks for 32 px.
        norm: normalisation of all layers but the output.
        classes: width of the condition y, which gives gain and bias of each normalisation; 0: no condition.
        attention: side of the map, in pixels, that self-attention is applied to; null: none.
        spectral: whether the weights of convolutions and linear layers are normalised spectrally, as in SAGAN.

    Raises:
        UserError: no map has the side `attention`.

    Reference: Miyato 2018, arXiv:1802.05957, tables 4 to 6; conditional: Miyato & Koyama 2018, arXiv:1802.05637,
    section 6; attention, spectral: Zhang 2018, arXiv:1805.08318, section 4.
    """

    def __init__(
        self,
        latent: PositiveInt,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 256,
        growth: PositiveInt = 1,
        norm: MapNorm = "batch",
        classes: NonNegativeInt = 0,
        attention: Size | None = None,
        spectral: bool = False,
    ) -> None:
        super().__init__()
        stages, base = dcgan_stages(size, least=1)
        widths = [width * min(growth, 1 << k) for k in reversed(range(stages))]
        widths = [widths[0], *widths]  # of the first map, then after each block
        self.first = nn.Linear(latent, widths[0] * base[0] * base[1])
        self.base_shape = (widths[0], *base)
        self.blocks = nn.ModuleList([UpBlock(i, o, norm, classes) for i, o in pairwise(widths)])
        self.attention = attention_layers(attention, [(base[0] << k, o) for k, o in enumerate(widths)])
        self.norm, self.image = _norm(norm, widths[-1], 0), nn.Conv2d(widths[-1], channels, 3, padding=1)
        init_residual_(self)
        if spectral:
            apply_spectral_norm(self, except_in=ConditionalNorm)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Generate images.

        Args:
            z: latents [B, latent].
            y: conditions [B, classes], if there is a condition.

        Returns:
            Images [B, C, H, W] in [-1, 1].
        """
        x = attended(self.attention, 0, self.first(z).unflatten(1, self.base_shape))
        for number, block in enumerate(self.blocks, 1):
            x = attended(self.attention, number, block(x, y))
        return self.image(relu(self.norm(x))).tanh()


class Discriminator(nn.Module):
    """Score images: residual blocks, the sum over all places, and one logit.

    There is one block more than a DCGAN of this size has stages. The last ones do not halve the map.

    Args:
        channels: channels of an image.
        size: image size in pixels.
        width: channels after the first block.
        growth: how many times `width` a map may have at most; channels double with each halving up to this.
        constant: number of blocks at the end that do not halve the map.
        norm: "spectral", as in the papers, or a normalisation of the maps.
        wide: whether the channels between the convolutions of a block are those of its output.
        classes: width of the condition y, which is projected onto the features; 0: no condition.
        attention: side of the map, in pixels, that self-attention is applied to; null: none.

    Raises:
        UserError: no map has the side `attention`, or there are fewer blocks than `constant`.

    Reference: Miyato 2018, arXiv:1802.05957, tables 4 to 6; projection: Miyato & Koyama 2018, arXiv:1802.05637,
    eq. (3); attention: Zhang 2018, arXiv:1805.08318, section 4.
    """

    per_sample = True

    def __init__(
        self,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 128,
        growth: PositiveInt = 1,
        constant: NonNegativeInt = 2,
        norm: Norm = "spectral",
        wide: bool = False,
        classes: NonNegativeInt = 0,
        attention: Size | None = None,
    ) -> None:
        super().__init__()
        halvings = halving_blocks(size, constant)
        widths = [width * min(growth, 1 << k) for k in range(len(halvings))]
        side, maps = height_width(size)[0], []
        blocks = []
        for k, ((i, o), halves) in enumerate(zip(pairwise([channels, *widths]), halvings)):
            blocks.append(DownBlock(i, o, halves, k == 0, wide, norm))
            side //= 1 + halves
            maps.append((side, o))
        self.blocks = nn.ModuleList(blocks)
        self.attention = attention_layers(attention, maps)
        self.score = nn.Linear(widths[-1], 1)
        self.projection = nn.Linear(classes, widths[-1], bias=False) if classes else None
        init_residual_(self)
        if norm == "spectral":
            apply_spectral_norm(self)

    def forward(self, x: Tensor, y: Tensor | None = None) -> CriticOutput:
        """Score images.

        Args:
            x: images [B, C, H, W].
            y: conditions [B, classes], if there is a condition.

        Returns:
            Scores [B] and features [B, f], the inputs of the last layer.
        """
        for number, block in enumerate(self.blocks):
            x = attended(self.attention, number, block(x))
        features = relu(x).sum((2, 3))
        return CriticOutput(projected_score(features, y, self.score, self.projection), features=features)


def projected_score(features: Tensor, y: Tensor | None, score: nn.Module, projection: nn.Module | None) -> Tensor:
    """Return psi(h) + y^T V h, [B], of features h [B, f] and conditions y [B, K]; without a condition psi(h).

    Reference: Miyato & Koyama 2018, arXiv:1802.05637, eq. (3).
    """
    result = score(features).squeeze(1).float()
    return result if projection is None else result + (projection(y) * features).sum(1).float()


def halving_blocks(size: Size, constant: int) -> list[bool]:
    """Return for each block of a discriminator whether it halves the map; the last `constant` ones do not.

    Raises:
        UserError: no block would be left that halves the map.
    """
    count = dcgan_stages(size, least=1)[0] + 1
    if constant >= count:
        raise UserError(
            f"constant={constant}: for images of {size} pixels D has {count} blocks; use at most {count - 1}"
        )
    return [True] * (count - constant) + [False] * constant


def attention_layers(attention: Size | None, maps: Sequence[tuple[int, int]]) -> nn.ModuleDict:
    """Create self-attention for the first map that has a given side.

    Args:
        attention: the side in pixels, or (height, width); None: no attention.
        maps: height and channels of each map, in their order.

    Returns:
        The layer by the number of the map, or nothing.

    Raises:
        UserError: no map has that side.
    """
    if attention is None:
        return nn.ModuleDict()
    height = height_width(attention)[0]
    for number, (side, channels) in enumerate(maps):
        if side == height:
            return nn.ModuleDict({str(number): SelfAttention(channels)})
    sides = ", ".join(str(side) for side in dict(maps))
    raise UserError(f"attention={height}: the maps have sides of {sides} pixels; choose one of these, or null")


def attended(layers: nn.ModuleDict, number: int, x: Tensor) -> Tensor:
    """Apply the self-attention of map `number`, if there is one."""
    return layers[str(number)](x) if str(number) in layers else x


def doubled(x: Tensor) -> Tensor:
    """Repeat each pixel of maps [B, C, h, w] in both directions, [B, C, 2h, 2w]."""
    return interpolate(x, scale_factor=2)


def _norm(kind: MapNorm, channels: int, classes: int, bias: bool = True) -> nn.Module:
    if not classes:
        return norm(kind, channels)
    layer = ConditionalNorm(kind, channels, classes, bias=bias)
    for parameter in layer.parameters():  # a gain of 1 + 0 and a bias of 0
        nn.init.zeros_(parameter)
    return layer


def _normalised(layer: nn.Module, x: Tensor, y: Tensor | None) -> Tensor:
    return layer(x, y) if isinstance(layer, ConditionalNorm) else layer(x)


@torch.no_grad()
def init_residual_(network: nn.Module) -> None:
    """Initialise convolutions and linear layers by Xavier's uniform scheme, in place; biases with 0.

    The gain is sqrt(2) for the 3 x 3 convolutions of residual blocks, and 1 for all other layers. Conditional
    normalisation keeps its own initial weights.

    Reference: Glorot 2010, eq. (16); the gains are those of the code of Miyato 2018, arXiv:1802.05957.
    """
    conditional = {
        id(layer) for norm in network.modules() if isinstance(norm, ConditionalNorm) for layer in norm.modules()
    }
    inner = {
        id(c) for block in network.modules() if isinstance(block, (UpBlock, DownBlock)) for c in block.convolutions
    }
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and id(module) not in conditional:
            nn.init.xavier_uniform_(module.weight, math.sqrt(2) if id(module) in inner else 1.0)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

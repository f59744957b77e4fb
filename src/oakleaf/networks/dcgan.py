"""Deep convolutional GAN. Radford 2015, arXiv:1511.06434, section 3: strided and fractionally strided convolutions in
place of pooling; batch normalisation in both networks, but not at G's output and D's input; no hidden fully connected
layers, unless asked for; ReLU and tanh in G, LeakyReLU in D. A condition y enters in one of several ways.
"""

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from oakleaf.config.types import NonNegativeFloat, NonNegativeInt, PositiveInt
from oakleaf.errors import UserError
from oakleaf.networks.layers import (
    Bottleneck,
    ConditionalNorm,
    MapNorm,
    Norm,
    Size,
    concat_condition,
    dcgan_weights,
    norm,
    sides,
    spectral,
)
from oakleaf.networks.minibatch import MinibatchDiscrimination
from oakleaf.round import CriticOutput

Upsample = Literal["transposed", "nearest", "bilinear", "shuffle"]


class Generator(nn.Module):
    """Projects z onto a base of 4 to 7 pixels and doubles it up to the image, halving the channels each time.

    upsample: how it doubles: `double`. stages: how often, if not up from 4 to 7 pixels: `layers.sides`. hidden: units
    of a fully connected layer before the base, or 0. classes: width of the condition y, or 0. conditioning: where y enters:
    concat_z = beside z; concat_all = beside what each layer sees (Radford 2015, its code's MNIST networks); cbn = as gain and
    bias of each normalisation (de Vries 2017, arXiv:1707.00683, section 2.2; Miyato & Koyama 2018, arXiv:1802.05637,
    section 6). blocks: of the maps, the smallest first, that go through a `Bottleneck`.
    """

    def __init__(
        self,
        latent: PositiveInt,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 64,
        kernel: PositiveInt = 4,
        norm: MapNorm = "batch",
        upsample: Upsample = "transposed",
        hidden: NonNegativeInt = 0,
        classes: NonNegativeInt = 0,
        conditioning: Literal["concat_z", "concat_all", "cbn"] = "concat_z",
        stages: NonNegativeInt = 0,
        blocks: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        self.latent = latent
        base, *maps = reversed(sides(size, stages))
        widths = [width << k for k in reversed(range(len(maps)))]  # e.g. 512, 256, 128, 64
        self.start = (widths[0], *base)
        bias = norm == "none"
        more = classes if conditioning == "concat_all" else 0
        conditional = classes if conditioning == "cbn" else 0
        inputs = latent + classes * (conditioning != "cbn")
        self.conditioning = conditioning if classes else "none"
        self.hidden = nn.ModuleList()
        if hidden:
            self.hidden.append(_Layer(nn.Linear(inputs, hidden, bias=bias), norm, hidden, nn.ReLU(), conditional))
            inputs = hidden + more
        project = nn.Sequential(
            nn.Linear(inputs, widths[0] * base[0] * base[1], bias=bias), nn.Unflatten(1, self.start)
        )
        doubled = [
            _cut(upsample_layer(i + more, o, kernel, upsample, bias), side)
            for (i, o), side in zip(pairwise(widths), maps)
        ]
        self.stages = nn.ModuleList()
        for k, (linear, w) in enumerate(zip([project, *doubled], widths)):
            activation = Bottleneck(w, norm, nn.ReLU()) if k < blocks else nn.ReLU()
            self.stages.append(_Layer(linear, norm, w, activation, conditional))
        self.image = nn.Sequential(
            _cut(upsample_layer(widths[-1] + more, channels, kernel, upsample), maps[-1]), nn.Tanh()
        )
        dcgan_weights(self, normalised=norm != "none")

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z [B, latent], y [B, classes] -> [B, C, H, W] in [-1, 1]"""
        x = z if self.conditioning in ("none", "cbn") else concat_condition(z, y)
        for layer in [*self.hidden, *self.stages]:
            x = layer(x, y)
            if self.conditioning == "concat_all":
                x = concat_condition(x, y)
        return self.image(x)


class Discriminator(nn.Module):
    """Halves the image down to the base, doubling the channels each time; the last map goes to one logit.

    stages: how often, if not down to 4 to 7 pixels: `layers.sides`. hidden: units of a fully connected layer after the
    base, or 0. Features are what the logit sees.
    classes: width of the condition y, or 0. conditioning: where y enters: concat_all = beside what each layer sees; projection = as
    an inner product with the features (Miyato & Koyama 2018, arXiv:1802.05637, eq. (3)).
    aux_classes: classes to tell apart besides (Odena 2016, arXiv:1610.09585, section 3), or 0.
    q_outputs: numbers of a code to guess, by a head with 128 hidden units (Chen 2016, arXiv:1606.03657, appendix C.1), or 0.
    minibatch: kernels of minibatch discrimination, which are features too (Salimans 2016, arXiv:1606.03498, section
    3.2), or 0.
    """

    def __init__(
        self,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 64,
        kernel: PositiveInt = 4,
        norm: Norm = "batch",
        slope: NonNegativeFloat = 0.2,
        hidden: NonNegativeInt = 0,
        classes: NonNegativeInt = 0,
        conditioning: Literal["concat_all", "projection"] = "concat_all",
        aux_classes: NonNegativeInt = 0,
        q_outputs: NonNegativeInt = 0,
        minibatch: NonNegativeInt = 0,
        stages: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        *maps, base = sides(size, stages)
        if kernel % 2 == 0 and any(side % 2 for height_width in maps for side in height_width):
            raise UserError(f"kernel={kernel}: only odd ones halve odd sides, rounded up")
        widths = [width << k for k in range(len(maps))]  # e.g. 64, 128, 256, 512
        bias = norm in ("none", "spectral")
        self.conditioning = conditioning if classes else "none"
        more = classes if conditioning == "concat_all" else 0
        self.stages = nn.ModuleList(
            [_Layer(downsample_layer(channels + more, width, kernel, True), "none", width, nn.LeakyReLU(slope))]
        )
        for i, o in pairwise(widths):
            self.stages.append(_Layer(downsample_layer(i + more, o, kernel, bias), norm, o, nn.LeakyReLU(slope)))
        features = widths[-1] * base[0] * base[1]
        self.hidden = nn.ModuleList()
        if hidden:
            self.hidden.append(_Layer(nn.Linear(features + more, hidden, bias=bias), norm, hidden, nn.LeakyReLU(slope)))
            features = hidden
        self.others = MinibatchDiscrimination(features, minibatch) if minibatch else None
        features += minibatch
        self.score = nn.Linear(features + more, 1)
        self.projection = (
            nn.Linear(classes, features, bias=False) if self.conditioning not in ("none", "concat_all") else None
        )
        self.classes = nn.Linear(features, aux_classes) if aux_classes else None
        inner = _Layer(nn.Linear(features, 128, bias=bias), norm, 128, nn.LeakyReLU(slope))
        self.code = nn.Sequential(inner, nn.Linear(128, q_outputs)) if q_outputs else None
        dcgan_weights(self, normalised=not bias)
        if norm == "spectral":
            spectral(self)

    def forward(self, x: Tensor, y: Tensor | None = None) -> CriticOutput:
        """x [B, C, H, W], y [B, classes] -> score [B], features [B, f], and what else was asked for"""
        concat_all = self.conditioning == "concat_all"
        for stage in self.stages:
            x = stage(concat_condition(x, y) if concat_all else x)
        x = x.flatten(1)
        for layer in self.hidden:
            x = layer(concat_condition(x, y) if concat_all else x)
        if self.others is not None:
            x = self.others(x)
        score = self.score(concat_condition(x, y) if concat_all else x).squeeze(1).float()
        if self.projection is not None:
            score = score + (self.projection(y) * x).sum(1).float()
        classes = self.classes(x).float() if self.classes is not None else None
        code = self.code(x).float() if self.code is not None else None
        return CriticOutput(score, classes, code, x)


class _Layer(nn.Module):
    """A linear map or convolution, its normalisation, told y where it is conditional, and its activation."""

    def __init__(self, linear: nn.Module, kind: Norm, channels: int, activation: nn.Module, classes: int = 0) -> None:
        super().__init__()
        self.linear, self.activation, self.conditional = linear, activation, classes > 0
        flat = isinstance(linear, nn.Linear)
        self.norm = ConditionalNorm(kind, channels, classes, flat) if classes else norm(kind, channels, flat)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.linear(x)
        return self.activation(self.norm(x, y) if self.conditional else self.norm(x))


class _Cut(nn.Module):
    """The first rows and columns alone."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, height, width]"""
        return x[:, :, : self.height, : self.width]


def _cut(doubled: nn.Module, side: tuple[int, int]) -> nn.Module:
    """To a side that is the double of no whole number of pixels, one is cut off."""
    return nn.Sequential(doubled, _Cut(*side)) if any(n % 2 for n in side) else doubled


def upsample_layer(
    inputs: int, outputs: int, kernel: int, upsample: Upsample = "transposed", bias: bool = True
) -> nn.Module:
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


def downsample_layer(inputs: int, outputs: int, kernel: int, bias: bool) -> nn.Module:
    """A strided convolution from h x w to h/2 x w/2."""
    return nn.Conv2d(inputs, outputs, kernel, 2, (kernel - 1) // 2, bias=bias)

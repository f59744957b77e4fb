"""The deep convolutional GAN (DCGAN).

Strided and fractionally strided convolutions replace pooling. Both networks have batch normalisation, except at G's
output and D's input. There are no hidden fully connected layers by default. G has ReLUs and a tanh output, D has leaky
ReLUs. A condition y can enter in several ways; see `Generator` and `Discriminator`.

Reference: Radford 2015, arXiv:1511.06434, section 3.
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
    apply_spectral_norm,
    concat_condition,
    feature_map_sizes,
    init_dcgan_,
    norm,
)
from oakleaf.networks.minibatch import MinibatchDiscrimination
from oakleaf.round import CriticOutput

Upsample = Literal["transposed", "nearest", "bilinear", "shuffle"]


class Generator(nn.Module):
    """Generate images: project z onto a small map and double it up to the image, halving the channels each time.

    Args:
        latent: length of the latent vector z.
        channels: channels of an image.
        size: image size in pixels.
        width: channels of the last map before the image.
        kernel: kernel size in pixels.
        norm: normalisation of all layers but the output.
        upsample: how a map is doubled; see `upsample_layer`.
        hidden: units of a fully connected layer before the first map; 0: none.
        classes: width of the condition y; 0: no condition.
        conditioning: where y enters. "concat_z": appended to z. "concat_all": appended to the input of each layer, as
            in the MNIST networks of the authors' code. "cbn": as gain and bias of each normalisation layer.
        stages: number of doublings, see `layers.feature_map_sizes`; 0: as many as lead from a map of 4 to 7 pixels to
            the image.
        blocks: number of maps that go through a residual `Bottleneck`, the smallest first.

    Reference: Radford 2015, arXiv:1511.06434, section 3 and appendix A; conditional batch normalisation: de Vries 2017,
    arXiv:1707.00683, section 2.2; Miyato & Koyama 2018, arXiv:1802.05637, section 6.
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
        base, *map_sizes = reversed(feature_map_sizes(size, stages))
        widths = [width << k for k in reversed(range(len(map_sizes)))]  # e.g. 512, 256, 128, 64
        self.base_shape = (widths[0], *base)
        bias = norm == "none"
        appended = classes if conditioning == "concat_all" else 0
        norm_classes = classes if conditioning == "cbn" else 0
        inputs = latent + classes * (conditioning != "cbn")
        self.conditioning = conditioning if classes else "none"
        self.hidden = nn.ModuleList()
        if hidden:
            self.hidden.append(_Layer(nn.Linear(inputs, hidden, bias=bias), norm, hidden, nn.ReLU(), norm_classes))
            inputs = hidden + appended
        projection = nn.Sequential(
            nn.Linear(inputs, widths[0] * base[0] * base[1], bias=bias), nn.Unflatten(1, self.base_shape)
        )
        doublings = [
            _cropped(upsample_layer(i + appended, o, kernel, upsample, bias), map_size)
            for (i, o), map_size in zip(pairwise(widths), map_sizes)
        ]
        self.stages = nn.ModuleList()
        for k, (linear, w) in enumerate(zip([projection, *doublings], widths)):
            activation = Bottleneck(w, norm, nn.ReLU()) if k < blocks else nn.ReLU()
            self.stages.append(_Layer(linear, norm, w, activation, norm_classes))
        self.image = nn.Sequential(
            _cropped(upsample_layer(widths[-1] + appended, channels, kernel, upsample), map_sizes[-1]), nn.Tanh()
        )
        init_dcgan_(self, normalised=norm != "none")

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Generate images.

        Args:
            z: latents [B, latent].
            y: conditions [B, classes], if there is a condition.

        Returns:
            Images [B, C, H, W] in [-1, 1].
        """
        x = z if self.conditioning in ("none", "cbn") else concat_condition(z, y)
        for layer in [*self.hidden, *self.stages]:
            x = layer(x, y)
            if self.conditioning == "concat_all":
                x = concat_condition(x, y)
        return self.image(x)


class Discriminator(nn.Module):
    """Score images: halve them down to a small map, doubling the channels each time, then compute one logit.

    Args:
        channels: channels of an image.
        size: image size in pixels.
        width: channels of the first map.
        kernel: kernel size in pixels.
        norm: normalisation of all layers but the first, or of the weights ("spectral").
        slope: negative slope of the leaky ReLUs.
        hidden: units of a fully connected layer after the last map; 0: none.
        classes: width of the condition y; 0: no condition.
        conditioning: where y enters. "concat_all": appended to the input of each layer. "concat_first": appended to
            the output of the first convolution (Perarnau 2016, arXiv:1611.06355, section 3.2). "projection": as an
            inner product with the features.
        aux_classes: classes of an auxiliary classifier; 0: none.
        q_outputs: parameters of InfoGAN's Q(code | x), predicted by a head with 128 hidden units; 0: none.
        minibatch: kernels of minibatch discrimination, whose outputs are appended to the features; 0: none.
        stages: number of halvings, see `layers.feature_map_sizes`; 0: as many as lead to a map of 4 to 7 pixels.

    Raises:
        UserError: an even kernel with a map of odd sides; a single convolution, and a condition that joins the second.

    Reference: Radford 2015, arXiv:1511.06434, section 3 and appendix A; projection: Miyato & Koyama 2018,
    arXiv:1802.05637, eq. (3); auxiliary classifier: Odena 2016, arXiv:1610.09585, section 3; Q: Chen 2016,
    arXiv:1606.03657, appendix C.1; minibatch discrimination: Salimans 2016, arXiv:1606.03498, section 3.2.
    """

    per_sample = True

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
        conditioning: Literal["concat_all", "concat_first", "projection"] = "concat_all",
        aux_classes: NonNegativeInt = 0,
        q_outputs: NonNegativeInt = 0,
        minibatch: NonNegativeInt = 0,
        stages: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        *map_sizes, base = feature_map_sizes(size, stages)
        if kernel % 2 == 0 and any(side % 2 for map_size in map_sizes for side in map_size):
            raise UserError(f"kernel={kernel}: maps of odd sides, which are rounded up, need an odd kernel, such as 5")
        if classes and conditioning == "concat_first" and len(map_sizes) < 2:
            raise UserError(
                "conditioning=concat_first: a condition after the first convolution needs stages=2 at least"
            )
        widths = [width << k for k in range(len(map_sizes))]  # e.g. 64, 128, 256, 512
        bias = norm in ("none", "spectral")
        self.conditioning = conditioning if classes else "none"
        appended = classes if conditioning == "concat_all" else 0
        self.stages = nn.ModuleList(
            [_Layer(downsample_layer(channels + appended, width, kernel, True), "none", width, nn.LeakyReLU(slope))]
        )
        for k, (i, o) in enumerate(pairwise(widths)):
            i += classes if conditioning == "concat_first" and k == 0 else 0
            self.stages.append(_Layer(downsample_layer(i + appended, o, kernel, bias), norm, o, nn.LeakyReLU(slope)))
        features = widths[-1] * base[0] * base[1]
        self.hidden = nn.ModuleList()
        if hidden:
            linear = nn.Linear(features + appended, hidden, bias=bias)
            self.hidden.append(_Layer(linear, norm, hidden, nn.LeakyReLU(slope)))
            features = hidden
        self.minibatch = MinibatchDiscrimination(features, minibatch) if minibatch else None
        features += minibatch
        self.score = nn.Linear(features + appended, 1)
        self.projection = nn.Linear(classes, features, bias=False) if self.conditioning == "projection" else None
        self.classes = nn.Linear(features, aux_classes) if aux_classes else None
        # also created without Q: without it, a seed would give other weights than in version 0.1
        code_hidden = _Layer(nn.Linear(features, 128, bias=bias), norm, 128, nn.LeakyReLU(slope))
        self.code = nn.Sequential(code_hidden, nn.Linear(128, q_outputs)) if q_outputs else None
        init_dcgan_(self, normalised=not bias)
        if norm == "spectral":
            apply_spectral_norm(self)

    def forward(self, x: Tensor, y: Tensor | None = None) -> CriticOutput:
        """Score images.

        Args:
            x: images [B, C, H, W].
            y: conditions [B, classes], if there is a condition.

        Returns:
            Scores [B] and features [B, f], the inputs of the last layer; the logits of the auxiliary classifier
            [B, aux_classes] and the parameters of Q [B, q_outputs], if there are any.
        """
        concat_all = self.conditioning == "concat_all"
        for k, stage in enumerate(self.stages):
            appended = concat_all or (self.conditioning == "concat_first" and k == 1)
            x = stage(concat_condition(x, y) if appended else x)
        x = x.flatten(1)
        for layer in self.hidden:
            x = layer(concat_condition(x, y) if concat_all else x)
        if self.minibatch is not None:
            x = self.minibatch(x)
        score = self.score(concat_condition(x, y) if concat_all else x).squeeze(1).float()
        if self.projection is not None:
            score = score + (self.projection(y) * x).sum(1).float()
        classes = self.classes(x).float() if self.classes is not None else None
        code = self.code(x).float() if self.code is not None else None
        return CriticOutput(score, classes, code, x)


class _Layer(nn.Module):
    """A linear layer or convolution, its normalisation (conditioned on y if `classes` > 0) and its activation."""

    def __init__(self, linear: nn.Module, kind: Norm, channels: int, activation: nn.Module, classes: int = 0) -> None:
        super().__init__()
        self.linear, self.activation, self.conditional = linear, activation, classes > 0
        flat = isinstance(linear, nn.Linear)
        self.norm = ConditionalNorm(kind, channels, classes, flat) if classes else norm(kind, channels, flat)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map x [B, ...] to activations [B, channels, ...]; y [B, classes] is the condition."""
        x = self.linear(x)
        return self.activation(self.norm(x, y) if self.conditional else self.norm(x))


class _Crop(nn.Module):
    """Keep the first rows and columns of a map."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: Tensor) -> Tensor:
        """Crop x [B, C, H, W] to [B, C, height, width]."""
        return x[:, :, : self.height, : self.width]


def _cropped(layer: nn.Module, size: tuple[int, int]) -> nn.Module:
    """Crop the layer's output, whose sides are even, to the size of the next map if that has an odd side."""
    return nn.Sequential(layer, _Crop(*size)) if any(side % 2 for side in size) else layer


def upsample_layer(
    inputs: int, outputs: int, kernel: int, upsample: Upsample = "transposed", bias: bool = True
) -> nn.Module:
    """Create a layer that maps h x w pixels to exactly 2h x 2w, for an even or odd kernel.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: kernel size in pixels.
        upsample: "transposed": a fractionally strided convolution. "nearest" or "bilinear": interpolation followed by a
            convolution. "shuffle": a convolution to four times as many channels, which are rearranged to pixels.
        bias: whether the convolution has a bias.

    Returns:
        The layer.

    Reference: transposed: Radford 2015, arXiv:1511.06434, section 3; nearest, bilinear: Odena 2016, "Deconvolution and
    checkerboard artifacts", doi:10.23915/distill.00003; shuffle: Shi 2016, arXiv:1609.05158, eq. (4).
    """
    if upsample == "transposed":
        padding, extra = (kernel - 1) // 2, kernel % 2
        return nn.ConvTranspose2d(inputs, outputs, kernel, 2, padding, output_padding=extra, bias=bias)
    if upsample == "shuffle":
        return nn.Sequential(_same_convolution(inputs, 4 * outputs, kernel, bias), nn.PixelShuffle(2))
    return nn.Sequential(nn.Upsample(scale_factor=2, mode=upsample), _same_convolution(inputs, outputs, kernel, bias))


def _same_convolution(inputs: int, outputs: int, kernel: int, bias: bool) -> nn.Module:
    """A convolution that keeps h x w; an even kernel is padded by one pixel more at the right and at the bottom."""
    before = (kernel - 1) // 2
    after = kernel - 1 - before
    convolution = nn.Conv2d(inputs, outputs, kernel, bias=bias)
    return nn.Sequential(nn.ZeroPad2d((before, after, before, after)), convolution)


def downsample_layer(inputs: int, outputs: int, kernel: int, bias: bool) -> nn.Module:
    """Create a convolution of stride 2 that maps h x w pixels to h/2 x w/2.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: kernel size in pixels.
        bias: whether the convolution has a bias.

    Returns:
        The layer.
    """
    return nn.Conv2d(inputs, outputs, kernel, 2, (kernel - 1) // 2, bias=bias)

"""StyleGAN2: a mapping network, modulated convolutions with noise, a generator with skips, a residual discriminator.

Written in plain PyTorch from the papers' equations. All weights are stored as N(0, 1) and scaled when they are used, so
that Adam changes all layers at the same relative rate ("equalised learning rate", Karras 2017, arXiv:1710.10196,
section 4.1).

Reference: Karras 2018, arXiv:1812.04948; Karras 2019, arXiv:1912.04958; details that the papers leave open are those of
the code of Karras 2020, arXiv:2006.06676.
"""

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu, linear

from oakleaf.config.types import Fraction, NonNegativeInt, PositiveInt, Probability, Size
from oakleaf.networks.layers import map_sizes, map_widths
from oakleaf.networks.minibatch import MinibatchStddev
from oakleaf.networks.resampling import Resampling
from oakleaf.round import CriticOutput, GeneratorOutput


def activated(x: Tensor, gain: float = 1.0) -> Tensor:
    """Apply a leaky ReLU of slope 0.2 and multiply by sqrt(2), which keeps the variance, and by a further gain."""
    return leaky_relu(x, 0.2) * (math.sqrt(2) * gain)


def normalised(x: Tensor) -> Tensor:
    """Divide each row of x [B, d] by its root mean square."""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class EqualLinear(nn.Module):
    """A linear layer with an equalised learning rate.

    Args:
        inputs: input features.
        outputs: output features.
        lr_factor: factor of the learning rate of weights and biases.
        bias: initial value of the biases.
    """

    def __init__(self, inputs: int, outputs: int, lr_factor: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_factor)
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr_factor))
        self.weight_gain, self.bias_gain = lr_factor / math.sqrt(inputs), lr_factor

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, inputs] to [B, outputs]."""
        return linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)


class EqualConv(nn.Module):
    """A convolution with an equalised learning rate, which may halve its input behind a low-pass filter.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: kernel size in pixels, 1 or 3.
        halves: whether the map is halved.
        bias: whether there is a bias.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, halves: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.gain, self.kernel, self.halves = 1 / math.sqrt(inputs * kernel**2), kernel, halves
        self.resampling = Resampling() if halves else None

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, inputs, h, w] to [B, outputs, h, w], or to half the sides."""
        weight = self.weight * self.gain
        if self.resampling is None:
            return conv2d(x, weight, self.bias, padding=self.kernel // 2)
        if self.kernel == 1:
            return conv2d(self.resampling.halved(x), weight, self.bias)
        return conv2d(self.resampling.filtered(x, 2), weight, self.bias, stride=2)


class ModulatedConv(nn.Module):
    """A convolution whose input channels are scaled by a style and whose output channels are normalised for it.

    With the weights w_oikl and the style s_i = affine(w), the weights of a sample are w'_oikl = s_i w_oikl, and with
    demodulation w''_oikl = w'_oikl / sqrt(sum_ikl w'_oikl^2 + 1e-8). The input is scaled by s and the output by the
    factors of the demodulation, which is the same and needs no weights of its own for each sample.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: kernel size in pixels, 1 or 3.
        style: length of w.
        demodulate: whether output channels are normalised.
        doubles: whether the map is doubled, with a low-pass filter behind.

    Reference: Karras 2019, arXiv:1912.04958, eq. (1) and (3); doubling: appendix B.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, style: int, demodulate: bool = True, doubles: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.affine = EqualLinear(style, inputs, bias=1.0)
        self.kernel, self.demodulate = kernel, demodulate
        self.gain = 1.0 if demodulate else 1 / math.sqrt(inputs * kernel**2)  # demodulation removes any gain
        self.resampling = Resampling() if doubles else None

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map features [B, inputs, h, w] to [B, outputs, h, w], or to twice the sides.

        Args:
            x: features.
            w: styles [B, style].
        """
        scale = self.affine(w) * self.gain
        x = x * scale[:, :, None, None].to(x.dtype)
        if self.resampling is None:
            x = conv2d(x, self.weight, padding=self.kernel // 2)
        else:
            x = 4 * self.resampling.filtered(conv_transpose2d(x, self.weight.transpose(0, 1), stride=2), 1)
        if self.demodulate:
            squares = scale.square() @ self.weight.square().sum((2, 3)).T  # [B, outputs]
            x = x * (squares.float() + 1e-8).rsqrt()[:, :, None, None].to(x.dtype)
        return x


class StyledConv(nn.Module):
    """A modulated convolution, noise, bias and activation.

    The noise is one map for all channels, N(0, 1), with a learned strength that begins at 0. It is drawn anew in
    training and constant otherwise, so that samples follow from their latents.

    Args:
        inputs: input channels.
        outputs: output channels.
        style: length of w.
        size: (h, w) of the output.
        doubles: whether the map is doubled.
    """

    noise: Tensor  # [h, w]

    def __init__(self, inputs: int, outputs: int, style: int, size: tuple[int, int], doubles: bool = False) -> None:
        super().__init__()
        self.convolution = ModulatedConv(inputs, outputs, 3, style, doubles=doubles)
        self.register_buffer("noise", torch.randn(size))
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map features [B, inputs, ...] and styles w [B, style] to activations [B, outputs, h, w]."""
        x = self.convolution(x, w)
        noise = torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=x.dtype) if self.training else self.noise
        return activated(x + (noise * self.strength).to(x.dtype) + self.bias[:, None, None].to(x.dtype))


class Mapping(nn.Module):
    """Map latents, and a condition, to w by linear layers and leaky ReLUs; keep a moving average of w.

    Args:
        latent: length of z; 0: w depends on the condition alone.
        width: length of w.
        layers: number of linear layers.
        classes: width of the condition y, which is embedded and appended to z; 0: no condition.
        decay: of the average of w, for each batch.

    Reference: Karras 2018, arXiv:1812.04948, section 2; the average and the normalisation of z: its code; the
    condition: code of Karras 2020, arXiv:2006.06676.
    """

    average: Tensor  # [width]

    def __init__(self, latent: int, width: int, layers: int, classes: int = 0, decay: float = 0.995) -> None:
        super().__init__()
        inputs = latent + (width if classes else 0)
        self.latent, self.decay = latent, decay
        self.embedding = EqualLinear(classes, width) if classes else None
        widths = [inputs, *[width] * layers]
        self.layers = nn.ModuleList([EqualLinear(i, o, 0.01) for i, o in itertools.pairwise(widths)])
        self.register_buffer("average", torch.zeros(width))

    def forward(self, z: Tensor | None, y: Tensor | None = None, track: bool = False) -> Tensor:
        """Map latents to w.

        Args:
            z: latents [B, latent]; None where w depends on the condition alone.
            y: conditions [B, classes], if there is a condition.
            track: whether the average follows this batch.

        Returns:
            w [B, width].
        """
        parts = [] if z is None else [normalised(z)]
        if self.embedding is not None:
            assert y is not None
            parts.append(normalised(self.embedding(y)))
        x = torch.cat(parts, 1)
        for layer in self.layers:
            x = activated(layer(x))
        if track:
            self.average.copy_(torch.lerp(x.detach().mean(0).to(self.average.dtype), self.average, self.decay))
        return x


class SynthesisBlock(nn.Module):
    """One resolution of the generator: one or two styled convolutions, and what they add to the image.

    Args:
        inputs: input channels; 0: the block begins with a learned constant.
        outputs: output channels.
        channels: channels of the image.
        style: length of w.
        size: (h, w) of its maps.
    """

    def __init__(self, inputs: int, outputs: int, channels: int, style: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.constant = None if inputs else nn.Parameter(torch.randn(outputs, *size))
        first = [StyledConv(inputs, outputs, style, size, doubles=True)] if inputs else []
        self.convolutions = nn.ModuleList([*first, StyledConv(outputs, outputs, style, size)])
        self.to_image = ModulatedConv(outputs, channels, 1, style, demodulate=False)
        self.image_bias = nn.Parameter(torch.zeros(channels))
        self.resampling = Resampling()

    def forward(self, x: Tensor | None, image: Tensor | None, styles: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [B, outputs, h, w] and the image [B, C, h, w] up to this resolution.

        Args:
            x: features of the block before, [B, inputs, h / 2, w / 2].
            image: the image of the block before.
            styles: w of each convolution and of the image, [B, convolutions + 1, style].
        """
        if self.constant is not None:
            x = self.constant.expand(len(styles), -1, -1, -1)
        for convolution, w in zip(self.convolutions, styles.unbind(1)):
            x = convolution(x, w)
        assert x is not None
        own = self.to_image(x, styles[:, -1]) + self.image_bias[:, None, None].to(x.dtype)
        return x, own if image is None else own + self.resampling.doubled(image)


class Generator(nn.Module):
    """Generate images: z to w by the mapping network, then from a learned constant by styled convolutions.

    Each resolution adds to the image, which is doubled from one to the next. There is no tanh: images may exceed
    [-1, 1] in training and are clamped otherwise.

    In training, with probability `mixing`, the layers from a random one on get the w of other latents, the same layer
    for the whole batch; these are drawn from N(0, I), with the same condition.

    Args:
        latent: length of the latent vector z, which should be N(0, I).
        channels: channels of an image.
        size: image size in pixels.
        width: largest number of channels of a map.
        capacity: channels times side of the maps with fewer channels than `width`.
        style: length of w.
        mapping_layers: layers of the mapping network.
        classes: width of the condition y; 0: no condition.
        mixing: probability of style mixing.
        decay: of the moving average of w that truncation draws to, for each batch.
        truncated_layers: number of layers, from the coarsest, that truncation applies to; null: all.

    Reference: Karras 2019, arXiv:1912.04958, section 2 and figure 7b; mixing and truncation: Karras 2018,
    arXiv:1812.04948, section 3.1 and appendix B.
    """

    def __init__(
        self,
        latent: PositiveInt,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 512,
        capacity: PositiveInt = 16384,
        style: PositiveInt = 512,
        mapping_layers: PositiveInt = 8,
        classes: NonNegativeInt = 0,
        mixing: Probability = 0.9,
        decay: Fraction = 0.995,
        truncated_layers: PositiveInt | None = None,
    ) -> None:
        super().__init__()
        sizes, widths = map_sizes(size), map_widths(size, width, capacity)
        self.mapping = Mapping(latent, style, mapping_layers, classes, decay)
        self.blocks = nn.ModuleList(
            [SynthesisBlock(i, o, channels, style, s) for i, o, s in zip([0, *widths], widths, sizes)]
        )
        self.layers = sum(len(block.convolutions) for block in self.blocks) + 1  # type: ignore[arg-type,misc]
        self.mixing, self.truncated_layers = mixing, truncated_layers

    def forward(self, z: Tensor, y: Tensor | None = None, truncation: Tensor | None = None) -> GeneratorOutput:
        """Generate images.

        Args:
            z: latents [B, latent].
            y: conditions [B, classes], if there is a condition.
            truncation: psi of each image, [B]: w becomes average + psi * (w - average); None: no truncation.

        Returns:
            Images [B, C, H, W], and as `w` the styles of all layers, [B, layers, style].
        """
        styles = self.styles(z, y, truncation)
        return GeneratorOutput(self.synthesis(styles), {"w": styles})

    def styles(self, z: Tensor, y: Tensor | None = None, truncation: Tensor | None = None) -> Tensor:
        """Return the styles of all layers, [B, layers, style]; the arguments are those of `forward`."""
        w = self.mapping(z, y, track=self.training)
        styles = w[:, None].expand(-1, self.layers, -1)
        place = torch.arange(self.layers, device=w.device)[:, None]
        if self.training and self.mixing:
            # the first layer of the other latents: 1 to layers - 1, or none
            start = torch.randint(1, self.layers, (), device=w.device)
            mixed = torch.rand((), device=w.device) < self.mixing
            other = self.mapping(torch.randn_like(z), y)
            styles = torch.where(mixed & (place >= start), other[:, None], styles)
        if truncation is not None:
            average = self.mapping.average.to(styles.dtype)
            truncated = average + truncation.to(styles.dtype)[:, None, None] * (styles - average)
            styles = torch.where(place < (self.truncated_layers or self.layers), truncated, styles)
        return styles

    def synthesis(self, styles: Tensor) -> Tensor:
        """Generate images [B, C, H, W] from the styles of all layers [B, layers, style]."""
        x: Tensor | None = None
        image: Tensor | None = None
        layer = 0
        for block in self.blocks:
            count = len(block.convolutions)  # type: ignore[arg-type]
            # the style of the image is that of the next block's first convolution
            x, image = block(x, image, styles[:, layer : layer + count + 1])
            layer += count
        assert image is not None
        return image if self.training else image.clamp(-1, 1)


class DiscriminatorBlock(nn.Module):
    """Two 3 x 3 convolutions, the second of which halves the map, and a shortcut.

    Args:
        inputs: input channels.
        outputs: output channels.
        residual: whether there is a shortcut.

    Reference: Karras 2019, arXiv:1912.04958, figure 7c.
    """

    def __init__(self, inputs: int, outputs: int, residual: bool) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList([EqualConv(inputs, inputs, 3), EqualConv(inputs, outputs, 3, halves=True)])
        self.shortcut = EqualConv(inputs, outputs, 1, halves=True, bias=False) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, inputs, h, w] to [B, outputs, h / 2, w / 2]."""
        h = activated(self.convolutions[0](x))
        if self.shortcut is None:
            return activated(self.convolutions[1](h))
        return activated(self.convolutions[1](h), math.sqrt(0.5)) + self.shortcut(x) * math.sqrt(0.5)


class Discriminator(nn.Module):
    """Score images: residual blocks down to a small map, minibatch standard deviation, two linear layers.

    Args:
        channels: channels of an image.
        size: image size in pixels.
        width: largest number of channels of a map.
        capacity: channels times side of the maps with fewer channels than `width`.
        residual: whether blocks have shortcuts; without, it is the discriminator of Karras 2017, arXiv:1710.10196.
        group: images in a group of the minibatch standard deviation; 0: none, and each image is scored by itself.
        classes: width of the condition y, which is mapped to a vector and projected onto the features; 0: no condition.
        mapping_layers: layers of the mapping of the condition.

    Reference: Karras 2019, arXiv:1912.04958, section 4; the condition: code of Karras 2020, arXiv:2006.06676.
    """

    per_sample = True

    def __init__(
        self,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 512,
        capacity: PositiveInt = 16384,
        residual: bool = True,
        group: NonNegativeInt = 4,
        classes: NonNegativeInt = 0,
        mapping_layers: PositiveInt = 8,
    ) -> None:
        super().__init__()
        base, widths = map_sizes(size)[0], map_widths(size, width, capacity)[::-1]
        last = widths[-1]
        self.from_image = EqualConv(channels, widths[0], 1)
        self.blocks = nn.ModuleList([DiscriminatorBlock(i, o, residual) for i, o in itertools.pairwise(widths)])
        self.minibatch = MinibatchStddev(group) if group else None
        self.convolution = EqualConv(last + (group > 0), last, 3)
        self.hidden = EqualLinear(last * base[0] * base[1], last)
        self.mapping = Mapping(0, last, mapping_layers, classes) if classes else None
        self.score = EqualLinear(last, last if classes else 1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> CriticOutput:
        """Score images.

        Args:
            x: images [B, C, H, W].
            y: conditions [B, classes], if there is a condition.

        Returns:
            Scores [B] and features [B, f], the inputs of the last layer.
        """
        x = activated(self.from_image(x))
        for block in self.blocks:
            x = block(x)
        if self.minibatch is not None:
            x = self.minibatch(x)
        features = activated(self.hidden(activated(self.convolution(x)).flatten(1)))
        result = self.score(features)
        if self.mapping is None:
            return CriticOutput(result.squeeze(1).float(), features=features)
        direction = self.mapping(None, y)
        return CriticOutput((result * direction).float().sum(1) / math.sqrt(direction.shape[1]), features=features)

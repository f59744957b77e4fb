"""The residual networks of R3GAN: grouped convolutions, no normalisation, weights scaled for the depth ("fix-up").

Reference: Huang 2024, arXiv:2501.05441, section 3 and appendix; details that the paper leaves open are those of its
code.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from oakleaf.config.types import NonNegativeInt, PositiveInt, Size
from oakleaf.networks.layers import map_sizes, map_widths
from oakleaf.networks.resampling import Resampling
from oakleaf.round import CriticOutput

GAIN = math.sqrt(2 / (1 + 0.2**2))  # of a leaky ReLU of slope 0.2: He 2015, arXiv:1502.01852, eq. (15)


@torch.no_grad()
def init_he_gain_(layer: nn.Conv2d | nn.Linear, gain: float) -> None:
    """Initialise weights from N(0, gain^2 / fan_in), in place."""
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(layer.weight[0].numel()))


class BiasedActivation(nn.Module):
    """Add a bias to each channel and apply a leaky ReLU of slope 0.2.

    Args:
        channels: channels of the maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, channels, h, w] to features of the same shape."""
        return leaky_relu(x + self.bias[:, None, None].to(x.dtype), 0.2)


class ResidualBlock(nn.Module):
    """x + c1(act(c3(act(c1(x))))), with twice the channels and a grouped 3 x 3 convolution between.

    The last convolution begins at 0; the others are scaled by L^(-1/4), where L is the number of blocks of the network.

    Args:
        channels: channels of the maps.
        group_width: channels of a group of the 3 x 3 convolution.
        depth: L.

    Reference: Huang 2024, arXiv:2501.05441, section 3; Zhang 2019, arXiv:1901.09321, for the initialisation.
    """

    def __init__(self, channels: int, group_width: int, depth: int) -> None:
        super().__init__()
        hidden = 2 * channels
        groups = next(count for count in range(max(1, hidden // group_width), 0, -1) if hidden % count == 0)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            BiasedActivation(hidden),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=groups, bias=False),
            BiasedActivation(hidden),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )
        for index, gain in ((0, GAIN * depth**-0.25), (2, GAIN * depth**-0.25), (4, 0.0)):
            init_he_gain_(self.layers[index], gain)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, channels, h, w] to features of the same shape."""
        return x + self.layers(x)


class Transition(nn.Module):
    """Halve or double a map by a low-pass filter, with a 1 x 1 convolution if the channels change.

    The convolution is on the side of the smaller map, where it takes less time.

    Args:
        inputs: input channels.
        outputs: output channels.
        doubles: whether the map is doubled, or halved.
    """

    def __init__(self, inputs: int, outputs: int, doubles: bool) -> None:
        super().__init__()
        self.resampling, self.doubles = Resampling(), doubles
        self.convolution = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, bias=False)
        if isinstance(self.convolution, nn.Conv2d):
            init_he_gain_(self.convolution, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, inputs, h, w] to [B, outputs, 2h, 2w] or [B, outputs, h / 2, w / 2]."""
        if self.doubles:
            return self.resampling.doubled(self.convolution(x))
        return self.convolution(self.resampling.halved(x))


class Generator(nn.Module):
    """Generate images: a learned map of 4 to 7 pixels whose channels z scales, then residual blocks and doublings.

    There is no tanh: images may exceed [-1, 1] in training and are clamped otherwise.

    Args:
        latent: length of the latent vector z.
        channels: channels of an image.
        size: image size in pixels.
        width: largest number of channels of a map.
        capacity: channels times side of the maps with fewer channels than `width`.
        blocks: residual blocks at each resolution.
        group_width: channels of a group of the 3 x 3 convolutions.
        classes: width of the condition y, which is embedded in as many numbers as z has; 0: no condition.

    Reference: Huang 2024, arXiv:2501.05441, section 3, configuration E.
    """

    def __init__(
        self,
        latent: PositiveInt,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 768,
        capacity: PositiveInt = 24576,
        blocks: PositiveInt = 2,
        group_width: PositiveInt = 16,
        classes: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        widths, depth = map_widths(size, width, capacity), len(map_sizes(size)) * blocks
        self.embedding = nn.Linear(classes, latent, bias=False) if classes else None
        self.basis = nn.Parameter(torch.randn(widths[0], *map_sizes(size)[0]))
        self.scale = nn.Linear(latent * (1 + (classes > 0)), widths[0], bias=False)
        layers: list[nn.Module] = []
        for k, (i, o) in enumerate(pairwise([widths[0], *widths])):
            layers += [Transition(i, o, doubles=True)] if k else []
            layers += [ResidualBlock(o, group_width, depth) for _ in range(blocks)]
        self.layers = nn.Sequential(*layers)
        self.image = nn.Conv2d(widths[-1], channels, 1, bias=False)
        for layer in (self.scale, self.image):
            init_he_gain_(layer, 1.0)
        if self.embedding is not None:
            init_he_gain_(self.embedding, 1.0)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Generate images.

        Args:
            z: latents [B, latent].
            y: conditions [B, classes], if there is a condition.

        Returns:
            Images [B, C, H, W].
        """
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(y)], 1)
        image = self.image(self.layers(self.basis * self.scale(z)[:, :, None, None]))
        return image if self.training else image.clamp(-1, 1)


class Discriminator(nn.Module):
    """Score images: residual blocks and halvings, then a depthwise convolution over the whole map and a linear layer.

    Args:
        channels: channels of an image.
        size: image size in pixels.
        width: largest number of channels of a map.
        capacity: channels times side of the maps with fewer channels than `width`.
        blocks: residual blocks at each resolution.
        group_width: channels of a group of the 3 x 3 convolutions.
        classes: width of the condition y, which is embedded and projected onto the features; 0: no condition.
        aux_classes: classes of an auxiliary classifier; 0: none.

    Reference: Huang 2024, arXiv:2501.05441, section 3, configuration E; classifier: arXiv:2510.00624 (UCD).
    """

    per_sample = True

    def __init__(
        self,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 768,
        capacity: PositiveInt = 24576,
        blocks: PositiveInt = 2,
        group_width: PositiveInt = 16,
        classes: NonNegativeInt = 0,
        aux_classes: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        widths, depth = map_widths(size, width, capacity)[::-1], len(map_sizes(size)) * blocks
        last = widths[-1]
        self.from_image = nn.Conv2d(channels, widths[0], 1, bias=False)
        layers: list[nn.Module] = []
        for k, (i, o) in enumerate(pairwise([widths[0], *widths])):
            layers += [Transition(i, o, doubles=False)] if k else []
            layers += [ResidualBlock(o, group_width, depth) for _ in range(blocks)]
        self.layers = nn.Sequential(*layers)
        self.pool = nn.Conv2d(last, last, map_sizes(size)[0], groups=last, bias=False)
        self.score = nn.Linear(last, last if classes else 1, bias=False)
        self.embedding = nn.Linear(classes, last, bias=False) if classes else None
        self.classes = nn.Linear(last, aux_classes) if aux_classes else None
        for layer in (self.from_image, self.pool, self.score):
            init_he_gain_(layer, 1.0)
        if self.embedding is not None:
            init_he_gain_(self.embedding, 1 / math.sqrt(last))

    def forward(self, x: Tensor, y: Tensor | None = None) -> CriticOutput:
        """Score images.

        Args:
            x: images [B, C, H, W].
            y: conditions [B, classes], if there is a condition.

        Returns:
            Scores [B] and features [B, f], the inputs of the last layer; the logits of the auxiliary classifier
            [B, aux_classes], if there is one.
        """
        features = self.pool(self.layers(self.from_image(x))).flatten(1)
        score = self.score(features)
        score = score.squeeze(1) if self.embedding is None else (score * self.embedding(y)).float().sum(1)
        classes = self.classes(features).float() if self.classes is not None else None
        return CriticOutput(score.float(), classes, features=features)

"""FastGAN: skip-layer excitation in G, a discriminator that learns to reconstruct real images.

The sizes of the paper, 256 to 1024 px, are extended to smaller images: excitation then spans all doublings.

Reference: Liu 2021, arXiv:2101.04775; details that it leaves open: copies of its code.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, glu, interpolate, leaky_relu

from oakleaf.config.types import NonNegativeInt, PositiveInt, Size
from oakleaf.networks.layers import Norm, apply_spectral_norm, map_sizes, norm
from oakleaf.networks.residual import doubled
from oakleaf.round import CriticOutput

MULTIPLES = (16, 8, 4, 2, 2, 1, 0.5, 0.25, 0.125)  # of `width` at 4, 8, 16, ... pixels
SMALLEST = 8  # side of the maps that images are reconstructed from, in pixels, where the smallest map has 4
RECONSTRUCTED = 128  # largest side of reconstructions, in pixels


def widths(size: Size, width: int) -> list[int]:
    """Return the channels of all maps, the smallest first."""
    return [max(2, int(width * MULTIPLES[min(k, len(MULTIPLES) - 1)])) for k in range(len(map_sizes(size)))]


class Noise(nn.Module):
    """Add noise, one map for all channels, with a learned strength that begins at 0; constant outside of training.

    Args:
        size: (h, w) of the maps.
    """

    noise: Tensor  # [h, w]

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("noise", torch.randn(size))
        self.strength = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, C, h, w] to features of the same shape."""
        noise = torch.randn_like(x[:, :1]) if self.training else self.noise.to(x.dtype)
        return x + self.strength * noise


class GatedBlock(nn.Module):
    """Double a map: nearest upsampling, then c3, noise, norm and gated linear unit, once or twice.

    Args:
        inputs: input channels.
        outputs: output channels.
        size: (h, w) of the output.
        twice: whether the second half is there twice, with noise.
    """

    def __init__(self, inputs: int, outputs: int, size: tuple[int, int], twice: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for i in (inputs, outputs) if twice else (inputs,):
            noise = Noise(size) if twice else nn.Identity()
            self.layers.append(
                nn.Sequential(nn.Conv2d(i, 2 * outputs, 3, padding=1, bias=False), noise, nn.BatchNorm2d(2 * outputs))
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, inputs, h / 2, w / 2] to [B, outputs, h, w]."""
        x = doubled(x)
        for layer in self.layers:
            x = glu(layer(x), 1)
        return x


class Excitation(nn.Module):
    """Skip-layer excitation: scale the channels of a large map by a function of a small one.

    Args:
        inputs: channels of the small map.
        outputs: channels of the large map.

    Reference: Liu 2021, arXiv:2101.04775, eq. (1) and (2).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(inputs, outputs, 4, bias=False), nn.Conv2d(outputs, outputs, 1, bias=False)

    def forward(self, small: Tensor, large: Tensor) -> Tensor:
        """Return the large map [B, outputs, H, W], scaled; small [B, inputs, h, w]."""
        pooled = adaptive_avg_pool2d(small, 4)
        return large * self.second(nn.functional.silu(self.first(pooled))).sigmoid()


class Generator(nn.Module):
    """Generate images: z to a map of 4 to 7 pixels, gated blocks that double it, skip-layer excitation, c3 and tanh.

    Args:
        latent: length of the latent vector z.
        channels: channels of an image.
        size: image size in pixels.
        width: channels at 128 px; 16 times as many at 4 px.
        span: doublings that an excitation spans; in smaller generators as many as there are.
        classes: width of the condition y, which is embedded and appended to z; 0: no condition.

    Reference: Liu 2021, arXiv:2101.04775, section 3.1 and its code.
    """

    def __init__(
        self,
        latent: PositiveInt,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 64,
        span: PositiveInt = 4,
        classes: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        sizes, channels_of = map_sizes(size), widths(size, width)
        self.embedding = nn.Linear(classes, latent, bias=False) if classes else None
        self.first = nn.ConvTranspose2d(latent * (1 + (classes > 0)), 2 * channels_of[0], sizes[0], bias=False)
        self.first_norm = nn.BatchNorm2d(2 * channels_of[0])
        self.blocks = nn.ModuleList(
            [
                GatedBlock(i, o, s, twice=k % 2 == 0)
                for k, ((i, o), s) in enumerate(zip(pairwise(channels_of), sizes[1:]))
            ]
        )
        self.span = min(span, len(self.blocks))
        pairs = zip(channels_of, channels_of[self.span :])
        self.excitations = nn.ModuleList([Excitation(low, high) for low, high in pairs])
        self.image = nn.Conv2d(channels_of[-1], channels, 3, padding=1, bias=False)
        init_fastgan_(self)
        apply_spectral_norm(self)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Generate images.

        Args:
            z: latents [B, latent].
            y: conditions [B, classes], if there is a condition.

        Returns:
            Images [B, C, H, W] in [-1, 1].
        """
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(y)], 1)
        maps = [glu(self.first_norm(self.first(z[:, :, None, None])), 1)]
        for number, block in enumerate(self.blocks, 1):
            x = block(maps[-1])
            lower = number - self.span
            maps.append(self.excitations[lower](maps[lower], x) if lower >= 0 else x)
        return self.image(maps[-1]).tanh()


class DownBlock(nn.Module):
    """Halve a map by two branches and take their mean: c4 of stride 2 and c3; average pooling and c1.

    Args:
        inputs: input channels.
        outputs: output channels.
        kind: normalisation of the maps.
    """

    def __init__(self, inputs: int, outputs: int, kind: Norm = "batch") -> None:
        super().__init__()
        self.main = nn.Sequential(
            *(nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), norm(kind, outputs), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), norm(kind, outputs), nn.LeakyReLU(0.2)),
        )
        self.direct = nn.Sequential(
            nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1, bias=False), norm(kind, outputs), nn.LeakyReLU(0.2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, inputs, h, w] to [B, outputs, h / 2, w / 2]."""
        return (self.main(x) + self.direct(x)) / 2


class Decoder(nn.Module):
    """Reconstruct an image from a map by gated doublings, c3 and tanh.

    Args:
        inputs: channels of the map.
        channels: channels of the image.
        size: (h, w) of the map.
        doublings: number of doublings.
        width: channels of the last map.
    """

    def __init__(self, inputs: int, channels: int, size: tuple[int, int], doublings: int, width: int) -> None:
        super().__init__()
        channels_of = [inputs, *[max(2, width << max(0, doublings - 1 - k)) for k in range(doublings)]]
        sizes = [(size[0] << k, size[1] << k) for k in range(1, doublings + 1)]
        blocks = [GatedBlock(i, o, s, twice=False) for (i, o), s in zip(pairwise(channels_of), sizes)]
        self.layers = nn.Sequential(*blocks, nn.Conv2d(channels_of[-1], channels, 3, padding=1, bias=False), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, inputs, h, w] to images [B, channels, h * 2^doublings, ...]."""
        return self.layers(x)  # type: ignore[no-any-return]


class Discriminator(nn.Module):
    """Score patches of images at two resolutions; decoders reconstruct images from inner maps.

    One branch halves the image down to 8 to 14 pixels, with excitations from earlier maps to later ones; the other does
    so with the image at half size. Both give a logit for each place. The decoders reconstruct the whole image from the
    last map of either branch, and a random quarter from the map before the last.

    Args:
        channels: channels of an image.
        size: image size in pixels, at least 16.
        width: channels at 128 px.
        norm: normalisation of the maps that scores are computed from, besides that of all weights.
        classes: width of the condition y, which is projected onto the mean features of the last map; 0: no condition.

    Reference: Liu 2021, arXiv:2101.04775, section 3.2 and its code; the condition is not in the paper.
    """

    per_sample = True

    def __init__(
        self,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 64,
        norm: Norm = "batch",
        classes: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        sizes, channels_of = map_sizes(size, least=2)[1:], widths(size, width)[1:]  # from 8 pixels on
        down = channels_of[::-1]
        self.from_image = nn.Conv2d(channels, down[0], 3, padding=1, bias=False)
        self.blocks = nn.ModuleList([DownBlock(i, o, norm) for i, o in pairwise(down)])
        span = min(3, len(self.blocks))
        self.excitations = nn.ModuleList([Excitation(early, late) for early, late in zip(down, down[span:])])
        self.small_from_image = nn.Conv2d(channels, down[1], 3, padding=1, bias=False)
        self.small_blocks = nn.ModuleList([DownBlock(i, o, norm) for i, o in pairwise(down[1:])])
        last, before = down[-1], down[-2]
        self.patches = nn.ModuleList([_patch_scores(last, norm), _patch_scores(last, norm)])
        self.projection = nn.Linear(classes, last, bias=False) if classes else None
        height, width_ = sizes[0]
        doublings = min(len(sizes) - 2, int(math.log2(RECONSTRUCTED / SMALLEST)))
        self.target = (height << doublings, width_ << doublings)
        base = max(2, width // 2)
        self.decoders = nn.ModuleList([Decoder(i, channels, sizes[0], doublings, base) for i in (last, last, before)])
        init_fastgan_(self)
        apply_spectral_norm(self)

    def forward(self, x: Tensor, y: Tensor | None = None) -> CriticOutput:
        """Score images.

        Args:
            x: images [B, C, H, W].
            y: conditions [B, classes], if there is a condition.

        Returns:
            Scores [B, 1, 2, n] of n patches at both resolutions, and features [B, f], means of the last maps.
        """
        large, _, small = self.maps(x)
        features = (large.mean((2, 3)) + small.mean((2, 3))) / 2
        scores = [patches(found).flatten(1) for patches, found in zip(self.patches, (large, small))]
        score = torch.stack(scores, 1)[:, None].float()
        if self.projection is not None:
            score = score + (self.projection(y) * features).float().sum(1)[:, None, None, None]
        return CriticOutput(score, features=features)

    def maps(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the last map of the image, the one before it, and the last map of the image at half size."""
        maps = [leaky_relu(self.from_image(x), 0.2)]
        span = len(self.blocks) + 1 - len(self.excitations)
        for number, block in enumerate(self.blocks, 1):
            found = block(maps[-1])
            early = number - span
            maps.append(self.excitations[early](maps[early], found) if early >= 0 else found)
        small = leaky_relu(self.small_from_image(avg_pool2d(x, 2)), 0.2)
        for block in self.small_blocks:
            small = block(small)
        return maps[-1], maps[-2], small

    def reconstructions(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Reconstruct images: the whole one from both branches, and a random quarter, the same for the whole batch.

        Args:
            x: images [B, C, H, W].

        Returns:
            Pairs of a reconstruction and its target, [B, C, h, w].
        """
        large, before, small = self.maps(x)
        target = interpolate(x, self.target, mode="area")
        row, column = torch.randint(2, (2,), device=x.device).unbind()
        part, quarter = _quarter(before, row, column), interpolate(_quarter(x, row, column), self.target, mode="area")
        found = [decoder(features) for decoder, features in zip(self.decoders, (large, small, part))]
        return list(zip(found, (target, target, quarter)))


def _quarter(x: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Return the upper or lower, left or right quarter of maps [B, C, h, w]."""
    halves = torch.stack(x.chunk(2, 2)).index_select(0, row[None])[0]
    return torch.stack(halves.chunk(2, 3)).index_select(0, column[None])[0]


def _patch_scores(channels: int, kind: Norm) -> nn.Sequential:
    hidden = max(1, channels // 2)
    return nn.Sequential(
        *(nn.Conv2d(channels, hidden, 1, bias=False), norm(kind, hidden), nn.LeakyReLU(0.2)),
        nn.Conv2d(hidden, 1, 4, bias=False),
    )


@torch.no_grad()
def init_fastgan_(network: nn.Module) -> None:
    """Initialise convolutions and linear layers from N(0, 0.02), gains of normalisation from N(1, 0.02), in place."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)

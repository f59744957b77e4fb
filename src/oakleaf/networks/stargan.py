"""The networks of StarGAN: a translator that is told the target domain, and a discriminator that recognises it.

Reference: Choi 2017, arXiv:1711.09020, appendix 7.2; code yunjey/stargan.
"""

import torch
from torch import Tensor, nn

from oakleaf.config.types import NonNegativeFloat, PositiveInt
from oakleaf.errors import UserError
from oakleaf.networks.layers import Size, concat_condition, height_width, nearest_size
from oakleaf.round import CriticOutput


class Generator(nn.Module):
    """Translate images to the domain of a condition, which is appended to the image as constant channels.

    In the paper's notation: c7-w, c4s2-2w, c4s2-4w, `blocks` residual blocks, d4s2-2w, d4s2-w, c7-channels. Padding is
    with zeros, because instance normalisation would remove a constant channel under padding by reflection; it has gain,
    bias, and running statistics for samples.

    Args:
        channels: of an image.
        classes: width of the condition y.
        size: image size in pixels.
        width: channels of the first map.
        blocks: residual blocks.

    Attributes:
        multiple: number that has to divide both sides of an image, in pixels.
        least: smallest side of an image, in pixels.

    Raises:
        UserError: a side is smaller than `least` or not divisible by `multiple`.

    Reference: Choi 2017, arXiv:1711.09020, table 4.
    """

    multiple = 4
    least = 8

    def __init__(
        self, channels: PositiveInt, classes: PositiveInt, size: Size, width: PositiveInt = 64, blocks: PositiveInt = 6
    ) -> None:
        super().__init__()
        if any(side % self.multiple or side < self.least for side in height_width(size)):
            raise UserError(
                f"data.size={size}: each side must be a multiple of {self.multiple}, and {self.least} at least; "
                f"nearest: {nearest_size(size, self.multiple, self.least)}"
            )
        layers = _normalised(nn.Conv2d(channels + classes, width, 7, 1, 3, bias=False), width)
        for w in (width, 2 * width):
            layers += _normalised(nn.Conv2d(w, 2 * w, 4, 2, 1, bias=False), 2 * w)
        layers += [_Residual(4 * width) for _ in range(blocks)]
        for w in (4 * width, 2 * width):
            layers += _normalised(nn.ConvTranspose2d(w, w // 2, 4, 2, 1, bias=False), w // 2)
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, channels, 7, 1, 3, bias=False), nn.Tanh())

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Translate images.

        Args:
            x: images [B, channels, H, W] in [-1, 1].
            y: target domains [B, classes].

        Returns:
            Images [B, channels, H, W] in [-1, 1].
        """
        return self.layers(concat_condition(x, y))  # type: ignore[no-any-return]


class _Residual(nn.Module):
    """x + two normalised 3 x 3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = (nn.Conv2d(channels, channels, 3, 1, 1, bias=False) for _ in range(2))
        self.change = nn.Sequential(*_normalised(first, channels), second, _norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.change(x)  # type: ignore[no-any-return]


class Discriminator(nn.Module):
    """Score patches of an image, and recognise its domain, by strided convolutions without normalisation.

    Args:
        channels: of an image.
        classes: number of classes or attributes.
        size: image size in pixels.
        width: channels of the first map; they double with each further convolution.
        stages: convolutions of stride 2; null: as many as leave a map of at least 2 pixels, at most six.
        slope: negative slope of the leaky ReLUs.

    Raises:
        UserError: the image is too small for so many stages.

    Reference: Choi 2017, arXiv:1711.09020, table 5.
    """

    per_sample = True

    def __init__(
        self,
        channels: PositiveInt,
        classes: PositiveInt,
        size: Size,
        width: PositiveInt = 64,
        stages: PositiveInt | None = None,
        slope: NonNegativeFloat = 0.01,
    ) -> None:
        super().__init__()
        height, width_px = height_width(size)
        stages = stages or max(1, min(6, min(height, width_px).bit_length() - 2))
        if min(height, width_px) >> stages < 1:
            raise UserError(f"data.size={size}: {stages} halvings leave nothing; fewer model.game.discriminator.stages")
        maps: list[nn.Module] = []
        for k in range(stages):
            before = channels if k == 0 else width << k - 1
            maps += [nn.Conv2d(before, width << k, 4, 2, 1), nn.LeakyReLU(slope)]
        self.maps = nn.Sequential(*maps)
        last = width << stages - 1
        self.score = nn.Conv2d(last, 1, 3, 1, 1, bias=False)
        self.classes = nn.Conv2d(last, classes, (height >> stages, width_px >> stages), bias=False)

    def forward(self, x: Tensor) -> CriticOutput:
        """Score images.

        Args:
            x: images [B, channels, H, W].

        Returns:
            Scores [B, 1, h, w], one for each patch, and logits of the domains [B, classes].
        """
        maps = self.maps(x)
        return CriticOutput(self.score(maps).float(), torch.mean(self.classes(maps), (2, 3)).float())


def _norm(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=True, track_running_stats=True)


def _normalised(convolution: nn.Module, channels: int) -> list[nn.Module]:
    return [convolution, _norm(channels), nn.ReLU()]

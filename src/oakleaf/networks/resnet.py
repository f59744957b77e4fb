"""A residual network that translates an image to an image of the same size.

Reference: Johnson 2016, arXiv:1603.08155, in the form of Zhu 2017 (CycleGAN), arXiv:1703.10593, appendix 7.2.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from oakleaf.config.types import PositiveInt
from oakleaf.errors import UserError
from oakleaf.networks.layers import MapNorm, Size, height_width, init_dcgan_, nearest_size, norm


class ResNet(nn.Module):
    """Translate images by two strided convolutions, residual blocks and two transposed convolutions.

    In the paper's notation the layers are c7s1-w, d2w, d4w, `blocks` times R4w, u2w, uw, c7s1-channels, where w is
    `width`. The 7 x 7 convolutions and the blocks have reflection padding.

    Args:
        inputs: channels of the input image.
        channels: channels of the output image.
        size: image size in pixels.
        width: channels of the first map.
        blocks: number of residual blocks; null: 6 for images of less than 256 pixels, else 9.
        norm: normalisation of all layers but the last.

    Attributes:
        multiple: number that has to divide both sides of an image, in pixels.
        least: smallest side of an image, in pixels.

    Raises:
        UserError: a side is smaller than `least` or not divisible by `multiple`.

    Reference: Zhu 2017, arXiv:1703.10593, appendix 7.2.
    """

    multiple = 4
    least = 16

    def __init__(
        self,
        inputs: PositiveInt,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 64,
        blocks: PositiveInt | None = None,
        norm: MapNorm = "instance",
    ) -> None:
        super().__init__()
        if any(side % self.multiple or side < self.least for side in height_width(size)):
            raise UserError(
                f"data.size={size}: each side must be a multiple of {self.multiple}, and {self.least} at least; "
                f"nearest: {nearest_size(size, self.multiple, self.least)}"
            )
        count = blocks or (6 if min(height_width(size)) < 256 else 9)
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), *_normalised(nn.Conv2d(inputs, width, 7), norm, width)]
        for w in (width, 2 * width):
            layers += _normalised(nn.Conv2d(w, 2 * w, 3, 2, 1), norm, 2 * w)
        layers += [Residual(4 * width, norm) for _ in range(count)]
        for w in (4 * width, 2 * width):
            layers += _normalised(nn.ConvTranspose2d(w, w // 2, 3, 2, 1, output_padding=1), norm, w // 2)
        self.layers = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, channels, 7), nn.Tanh())
        init_dcgan_(self, normalised=norm != "none")

    def forward(self, y: Tensor) -> Tensor:
        """Translate images.

        Args:
            y: input images [B, inputs, H, W]; H and W may be any multiples of 4.

        Returns:
            Images [B, channels, H, W] in [-1, 1].
        """
        return self.layers(y)

    def features(self, y: Tensor, numbers: Sequence[int]) -> list[Tensor]:
        """Return the outputs of single layers.

        Args:
            y: images [B, inputs, H, W].
            numbers: of the layers, ascending; 0 is the padded image.

        Returns:
            [B, C, h, w] each.

        Raises:
            UserError: there is no such layer.
        """
        if not numbers or max(numbers) >= len(self.layers):
            raise UserError(f"layers={list(numbers)}: the generator has layers 0 to {len(self.layers) - 1}")
        found = []
        for number, layer in enumerate(self.layers[: max(numbers) + 1]):
            y = layer(y)
            if number in numbers:
                found.append(y)
        return found


class Residual(nn.Module):
    """A residual block: x + two 3 x 3 convolutions with reflection padding.

    Args:
        channels: channels of input and output.
        kind: normalisation after each convolution, as in `layers.norm`.

    Reference: Zhu 2017, arXiv:1703.10593, appendix 7.2.
    """

    def __init__(self, channels: int, kind: MapNorm) -> None:
        super().__init__()
        first = _normalised(nn.Conv2d(channels, channels, 3), kind, channels)
        second = [nn.Conv2d(channels, channels, 3), norm(kind, channels, affine=False)]
        self.change = nn.Sequential(nn.ReflectionPad2d(1), *first, nn.ReflectionPad2d(1), *second)

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, channels, h, w] to features of the same shape."""
        return x + self.change(x)


def _normalised(convolution: nn.Module, kind: MapNorm, channels: int) -> list[nn.Module]:
    return [convolution, norm(kind, channels, affine=False), nn.ReLU()]

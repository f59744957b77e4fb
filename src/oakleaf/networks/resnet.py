"""From a picture to an image by residual blocks. Johnson 2016, arXiv:1603.08155, as Zhu 2017 (CycleGAN),
arXiv:1703.10593, uses them, appendix 7.2."""

from torch import Tensor, nn

from oakleaf.config.types import PositiveInt
from oakleaf.errors import UserError
from oakleaf.networks.layers import MapNorm, Size, dcgan_weights, height_width, norm, rounded


class ResNet(nn.Module):
    """c7s1-w, d2w, d4w, `blocks` times R4w, u2w, uw, c7s1-channels, in the paper's letters; reflection at the borders.

    blocks: null: 6 for less than 256 pixels, else 9 (appendix 7.2).
    """

    multiple = 4  # what has to divide a picture's sides
    least = 16  # px a side

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
                f"nearest: {rounded(size, self.multiple, self.least)}"
            )
        count = blocks or (6 if min(height_width(size)) < 256 else 9)
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), *_normed(nn.Conv2d(inputs, width, 7), norm, width)]
        for w in (width, 2 * width):
            layers += _normed(nn.Conv2d(w, 2 * w, 3, 2, 1), norm, 2 * w)
        layers += [Residual(4 * width, norm) for _ in range(count)]
        for w in (4 * width, 2 * width):
            layers += _normed(nn.ConvTranspose2d(w, w // 2, 3, 2, 1, output_padding=1), norm, w // 2)
        self.layers = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, channels, 7), nn.Tanh())
        dcgan_weights(self, normalised=norm != "none")

    def forward(self, y: Tensor) -> Tensor:
        """y [B, inputs, H, W] -> [B, channels, H, W] in [-1, 1]; H and W of any size that 4 divides"""
        return self.layers(y)


class Residual(nn.Module):
    """x + two convolutions of 3 x 3."""

    def __init__(self, channels: int, kind: MapNorm) -> None:
        super().__init__()
        first = _normed(nn.Conv2d(channels, channels, 3), kind, channels)
        second = [nn.Conv2d(channels, channels, 3), norm(kind, channels, affine=False)]
        self.change = nn.Sequential(nn.ReflectionPad2d(1), *first, nn.ReflectionPad2d(1), *second)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, h, w]"""
        return x + self.change(x)


def _normed(convolution: nn.Module, kind: MapNorm, channels: int) -> list[nn.Module]:
    return [convolution, norm(kind, channels, affine=False), nn.ReLU()]

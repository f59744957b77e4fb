"""The networks of SRGAN: a residual network for super-resolution, and a discriminator in the manner of VGG.

Reference: Ledig 2016, arXiv:1609.04802, figure 4; the generator as in BasicSR (Wang 2018, arXiv:1809.00219, section
4.1), without batch normalisation.
"""

from torch import Tensor, nn
from torch.nn.functional import interpolate

from oakleaf.config.types import NonNegativeFloat, PositiveInt
from oakleaf.errors import UserError
from oakleaf.networks import layers
from oakleaf.networks.layers import Norm, Size, height_width, nearest_size
from oakleaf.round import CriticOutput


class SRResNet(nn.Module):
    """Add details to an image of low resolution that was enlarged to its final size (`data/input=low_resolution`).

    The image is shrunk to its own resolution. Residual blocks work there; pixel shuffles double the map to the full
    size, and the result is added to the input.

    Args:
        inputs: channels of the input image.
        channels: channels of the output image.
        size: image size in pixels.
        factor: by which the resolution is lower, a power of two.
        width: channels of all maps.
        blocks: residual blocks.

    Attributes:
        multiple: number that has to divide both sides of an image, in pixels.
        least: smallest side of an image, in pixels.

    Raises:
        UserError: the factor is no power of two, a side is not divisible by it, or the channels differ.

    Reference: Ledig 2016, arXiv:1609.04802, figure 4; code xinntao/BasicSR, MSRResNet.
    """

    def __init__(
        self,
        inputs: PositiveInt,
        channels: PositiveInt,
        size: Size,
        factor: PositiveInt = 4,
        width: PositiveInt = 64,
        blocks: PositiveInt = 16,
    ) -> None:
        super().__init__()
        doublings = factor.bit_length() - 1
        if factor < 2 or factor != 1 << doublings:
            raise UserError(f"model.game.generator.factor={factor}: a power of two, as data.input.factor is")
        if inputs != channels:
            raise UserError(f"the input has {inputs} channels and the image {channels}: data/input=low_resolution")
        self.factor, self.multiple, self.least = factor, factor, 2 * factor
        if any(side % factor or side < self.least for side in height_width(size)):
            raise UserError(
                f"data.size={size}: each side must be a multiple of {factor}, and {self.least} at least; nearest: "
                f"{nearest_size(size, factor, self.least)}"
            )
        self.first = nn.Sequential(nn.Conv2d(inputs, width, 3, padding=1), nn.LeakyReLU(0.1))
        self.blocks = nn.Sequential(*[_Block(width) for _ in range(blocks)])
        up: list[nn.Module] = []
        for _ in range(doublings):
            up += [nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.LeakyReLU(0.1)]
        self.up = nn.Sequential(*up, nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(0.1))
        self.image = nn.Conv2d(width, channels, 3, padding=1)
        layers.init_dcgan_(self, normalised=False)
        for block in self.blocks.children():
            nn.init.zeros_(block.get_parameter("change.2.weight"))  # each block is the identity at first
        nn.init.normal_(self.image.weight, 0.0, 1e-3)

    def forward(self, y: Tensor) -> Tensor:
        """Add details to images.

        Args:
            y: images [B, inputs, H, W] in [-1, 1].

        Returns:
            Images [B, channels, H, W]; in eval mode within [-1, 1].
        """
        small = interpolate(y.float(), scale_factor=1 / self.factor, mode="bicubic", antialias=True).to(y.dtype)
        x = self.first(small)
        result = y + self.image(self.up(self.blocks(x)))
        return result if self.training else result.clamp(-1, 1)


class _Block(nn.Module):
    """x + two 3 x 3 convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.change(x)  # type: ignore[no-any-return]


class Discriminator(nn.Module):
    """Score images by pairs of 3 x 3 convolutions, the second of stride 2, and two linear layers.

    Args:
        channels: channels of an image.
        size: image size in pixels.
        width: channels of the first map; they double at each further pair, up to eight times.
        stages: pairs of convolutions.
        hidden: units of the linear layer.
        norm: normalisation of all convolutions but the first, or of the weights ("spectral").
        slope: negative slope of the leaky ReLUs.

    Raises:
        UserError: the images are too small for so many halvings.

    Reference: Ledig 2016, arXiv:1609.04802, figure 4.
    """

    per_sample = True

    def __init__(
        self,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 64,
        stages: PositiveInt = 4,
        hidden: PositiveInt = 1024,
        norm: Norm = "batch",
        slope: NonNegativeFloat = 0.2,
    ) -> None:
        super().__init__()
        height, width_px = height_width(size)
        if min(height, width_px) >> stages < 1:
            raise UserError(f"data.size={size}: {stages} halvings leave nothing; model.game.discriminator.stages=2")
        bias = norm in ("none", "spectral")
        maps: list[nn.Module] = []
        before = channels
        for stage in range(stages):
            after = min(width << stage, 8 * width)
            for stride in (1, 2):
                first = not maps
                maps.append(nn.Conv2d(before, after, 3, stride, 1, bias=bias or first))
                maps += [layers.norm("none" if first else norm, after), nn.LeakyReLU(slope)]
                before = after
            height, width_px = -(-height // 2), -(-width_px // 2)
        self.maps = nn.Sequential(*maps, nn.Flatten())
        self.hidden = nn.Sequential(nn.Linear(before * height * width_px, hidden), nn.LeakyReLU(slope))
        self.score = nn.Linear(hidden, 1)
        layers.init_dcgan_(self, normalised=not bias)
        if norm == "spectral":
            layers.apply_spectral_norm(self)

    def forward(self, x: Tensor, y: Tensor | None = None) -> CriticOutput:
        """Score images.

        Args:
            x: images [B, channels, H, W].
            y: the images from which they were made; they are not used.

        Returns:
            Scores [B], and the features before the last layer [B, hidden].
        """
        features = self.hidden(self.maps(x))
        return CriticOutput(self.score(features).squeeze(1).float(), features=features)

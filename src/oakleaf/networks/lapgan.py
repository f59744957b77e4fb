"""The networks of LAPGAN. Denton 2015, arXiv:1506.05751, section 4.1 and the authors' code (facebook/eyescream, cifar).

`Base` is for the coarsest image, perceptrons; `Detail` for a finer one. Weights start as torch has them, which is how
Torch7 had them. What a generator makes is not bounded.
"""

from itertools import chain, pairwise
from math import prod

from torch import Tensor, cat, nn

from oakleaf.config.types import Fraction, NonNegativeInt, PositiveInt
from oakleaf.networks import layers
from oakleaf.networks.layers import MapNorm, Size, concat_condition, height_width
from oakleaf.round import CriticOutput


class BaseGenerator(nn.Module):
    """Two rectified layers, then a linear one to the image; the class y comes beside z.

    norm: before each rectifier; the paper has none.
    """

    def __init__(
        self,
        channels: PositiveInt,
        size: Size,
        latent: PositiveInt = 100,
        units: PositiveInt = 1200,
        norm: MapNorm = "none",
        classes: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        self.latent, self.classes, shape = latent, classes, (channels, *height_width(size))
        widths = pairwise([latent + classes, units, units])
        bias = norm == "none"
        steps = [(nn.Linear(i, o, bias=bias), layers.norm(norm, o, flat=True), nn.ReLU()) for i, o in widths]
        image = nn.Linear(units, prod(shape)), nn.Unflatten(1, shape)
        self.layers = nn.Sequential(*chain(*steps), *image)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z [B, latent], y [B, classes] -> [B, C, H, W]"""
        return self.layers(concat_condition(z, y) if self.classes else z)  # type: ignore[no-any-return]


class BaseDiscriminator(nn.Module):
    """Two rectified layers with dropout, then one logit; the class y comes beside the image's values."""

    def __init__(
        self,
        channels: PositiveInt,
        size: Size,
        units: PositiveInt = 600,
        dropout: Fraction = 0.5,
        classes: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        self.classes = classes
        inputs = channels * prod(height_width(size)) + classes
        steps = [(nn.Linear(i, o), nn.ReLU(), nn.Dropout(dropout)) for i, o in pairwise([inputs, units, units])]
        self.layers = nn.Sequential(*chain(*steps))
        self.score = nn.Linear(units, 1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> CriticOutput:
        """x [B, C, H, W], y [B, classes] -> score [B], features [B, units]"""
        features = self.layers(concat_condition(x.flatten(1), y) if self.classes else x.flatten(1))
        return CriticOutput(self.score(features).squeeze(1).float(), features=features)


class DetailGenerator(nn.Module):
    """z is a fourth colour plane of the low-pass image, and the class one more; convolutions, with rectifiers in
    between, make the residual.

    latent: as many numbers as the image has pixels. norm: before each rectifier; the paper has none.
    """

    def __init__(
        self,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 128,
        kernels: tuple[PositiveInt, ...] = (7, 7, 5),
        norm: MapNorm = "none",
        classes: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        self.size = height_width(size)
        self.latent = prod(self.size)
        self.plane = _plane(classes, self.size) if classes else None
        planes = channels + 1 + (classes > 0)
        *inner, last = kernels
        bias = norm == "none"
        steps = [
            (nn.Conv2d(i, width, kernel, padding="same", bias=bias), layers.norm(norm, width), nn.ReLU())
            for i, kernel in zip([planes, *[width] * len(inner)], inner)
        ]
        self.layers = nn.Sequential(
            *chain(*steps), nn.Conv2d(width if inner else planes, channels, last, padding="same")
        )

    def forward(self, z: Tensor, low: Tensor, y: Tensor | None = None) -> Tensor:
        """z [B, H*W], low [B, C, H, W], y [B, classes] -> the residual [B, C, H, W]"""
        planes = [z.unflatten(1, (1, *self.size)), low]
        if self.plane is not None:
            planes.append(self.plane(y))
        return self.layers(cat([plane.to(low.dtype) for plane in planes], 1))  # type: ignore[no-any-return]


class DetailDiscriminator(nn.Module):
    """Two convolutions, the second one with stride 2, and dropout before the logit; the class is one more plane.

    Unlike the code's, convolutions are padded: there are images of 8 pixels, too.
    """

    def __init__(
        self,
        channels: PositiveInt,
        size: Size,
        width: PositiveInt = 128,
        kernel: PositiveInt = 5,
        dropout: Fraction = 0.5,
        classes: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        height, across = height_width(size)
        self.plane = _plane(classes, (height, across)) if classes else None
        self.layers = nn.Sequential(
            *(nn.Conv2d(channels + (classes > 0), width, kernel, padding=kernel // 2), nn.ReLU()),
            *(nn.Conv2d(width, width, kernel, 2, kernel // 2), nn.ReLU(), nn.Flatten(), nn.Dropout(dropout)),
        )
        self.score = nn.Linear(width * -(-height // 2) * -(-across // 2), 1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> CriticOutput:
        """x [B, C, H, W], y [B, classes] -> score [B], features [B, f]"""
        if self.plane is not None:
            x = cat([x, self.plane(y).to(x.dtype)], 1)
        features = self.layers(x)
        return CriticOutput(self.score(features).squeeze(1).float(), features=features)


def _plane(classes: int, size: tuple[int, int]) -> nn.Module:
    """y [B, classes] as one plane [B, 1, H, W] (section 4.1)."""
    return nn.Sequential(nn.Linear(classes, prod(size)), nn.ReLU(), nn.Unflatten(1, (1, *size)))

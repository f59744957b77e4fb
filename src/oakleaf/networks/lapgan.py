"""The networks of LAPGAN, one pair for the coarsest level of the pyramid and one for each finer level.

`BaseGenerator` and `BaseDiscriminator` are multilayer perceptrons for the coarsest image. `DetailGenerator` and
`DetailDiscriminator` are convolutional networks for the finer levels. Weights have torch's default initialisation,
which is that of Torch7, the authors' framework. The generators' outputs are not bounded.

Reference: Denton 2015, arXiv:1506.05751, section 4.1; code facebook/eyescream, cifar.
"""

from itertools import chain, pairwise
from math import prod

from torch import Tensor, cat, nn

from oakleaf.config.types import Fraction, NonNegativeInt, PositiveInt
from oakleaf.networks import layers
from oakleaf.networks.layers import MapNorm, Size, concat_condition, height_width
from oakleaf.round import CriticOutput


class BaseGenerator(nn.Module):
    """Generate the coarsest image by two ReLU layers and a linear output; the class y is appended to z.

    Args:
        channels: channels of an image.
        size: size of the coarsest image in pixels.
        latent: length of the latent vector z.
        units: units of each hidden layer.
        norm: normalisation before each ReLU; the paper has none.
        classes: width of the condition y; 0: no condition.

    Reference: Denton 2015, arXiv:1506.05751, section 4.1.
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
        hidden = [(nn.Linear(i, o, bias=bias), layers.norm(norm, o, flat=True), nn.ReLU()) for i, o in widths]
        image = nn.Linear(units, prod(shape)), nn.Unflatten(1, shape)
        self.layers = nn.Sequential(*chain(*hidden), *image)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Generate images of the coarsest level.

        Args:
            z: latents [B, latent].
            y: conditions [B, classes], if there is a condition.

        Returns:
            Images [B, C, h, w], not bounded.
        """
        return self.layers(concat_condition(z, y) if self.classes else z)  # type: ignore[no-any-return]


class BaseDiscriminator(nn.Module):
    """Score the coarsest image by two ReLU layers with dropout and one logit; the class y is appended to the image.

    Args:
        channels: channels of an image.
        size: size of the coarsest image in pixels.
        units: units of each hidden layer.
        dropout: dropout probability after each hidden layer.
        classes: width of the condition y; 0: no condition.

    Reference: Denton 2015, arXiv:1506.05751, section 4.1.
    """

    per_sample = True

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
        hidden = [(nn.Linear(i, o), nn.ReLU(), nn.Dropout(dropout)) for i, o in pairwise([inputs, units, units])]
        self.layers = nn.Sequential(*chain(*hidden))
        self.score = nn.Linear(units, 1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> CriticOutput:
        """Score images of the coarsest level.

        Args:
            x: images [B, C, h, w].
            y: conditions [B, classes], if there is a condition.

        Returns:
            Scores [B] and features [B, units], the inputs of the last layer.
        """
        features = self.layers(concat_condition(x.flatten(1), y) if self.classes else x.flatten(1))
        return CriticOutput(self.score(features).squeeze(1).float(), features=features)


class DetailGenerator(nn.Module):
    """Generate the residual of a finer level from noise and the low-pass image, by convolutions and ReLUs.

    The noise is one more channel of the low-pass image, and so is the class y.

    Args:
        channels: channels of an image.
        size: size of the level's image in pixels.
        width: channels of the hidden maps.
        kernels: kernel sizes in pixels, one for each convolution.
        norm: normalisation before each ReLU; the paper has none.
        classes: width of the condition y; 0: no condition.

    Attributes:
        latent: length of the latent vector z, the number of pixels of the image.

    Reference: Denton 2015, arXiv:1506.05751, section 4.1; code facebook/eyescream, cifar.
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
        self.class_channel = _class_channel(classes, self.size) if classes else None
        inputs = channels + 1 + (classes > 0)
        *inner, last = kernels
        bias = norm == "none"
        hidden = [
            (nn.Conv2d(i, width, kernel, padding="same", bias=bias), layers.norm(norm, width), nn.ReLU())
            for i, kernel in zip([inputs, *[width] * len(inner)], inner)
        ]
        self.layers = nn.Sequential(
            *chain(*hidden), nn.Conv2d(width if inner else inputs, channels, last, padding="same")
        )

    def forward(self, z: Tensor, low: Tensor, y: Tensor | None = None) -> Tensor:
        """Generate residuals.

        Args:
            z: latents [B, H * W].
            low: low-pass images [B, C, H, W].
            y: conditions [B, classes], if there is a condition.

        Returns:
            Residuals [B, C, H, W], which are added to the low-pass images; not bounded.
        """
        channels = [z.unflatten(1, (1, *self.size)), low]
        if self.class_channel is not None:
            channels.append(self.class_channel(y))
        return self.layers(cat([maps.to(low.dtype) for maps in channels], 1))  # type: ignore[no-any-return]


class DetailDiscriminator(nn.Module):
    """Score images of a finer level by two convolutions, the second of stride 2, dropout and one logit.

    The class y is one more channel of the image. Unlike in the authors' code, convolutions are padded, because a level
    may have as few as 8 pixels a side.

    Args:
        channels: channels of an image.
        size: size of the level's image in pixels.
        width: channels of both maps.
        kernel: kernel size in pixels.
        dropout: dropout probability of the last layer's inputs.
        classes: width of the condition y; 0: no condition.

    Reference: Denton 2015, arXiv:1506.05751, section 4.1; code facebook/eyescream, cifar.
    """

    per_sample = True

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
        h, w = height_width(size)
        self.class_channel = _class_channel(classes, (h, w)) if classes else None
        self.layers = nn.Sequential(
            *(nn.Conv2d(channels + (classes > 0), width, kernel, padding=kernel // 2), nn.ReLU()),
            *(nn.Conv2d(width, width, kernel, 2, kernel // 2), nn.ReLU(), nn.Flatten(), nn.Dropout(dropout)),
        )
        self.score = nn.Linear(width * -(-h // 2) * -(-w // 2), 1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> CriticOutput:
        """Score images of the level.

        Args:
            x: images [B, C, H, W].
            y: conditions [B, classes], if there is a condition.

        Returns:
            Scores [B] and features [B, f], the inputs of the last layer.
        """
        if self.class_channel is not None:
            x = cat([x, self.class_channel(y).to(x.dtype)], 1)
        features = self.layers(x)
        return CriticOutput(self.score(features).squeeze(1).float(), features=features)


def _class_channel(classes: int, size: tuple[int, int]) -> nn.Module:
    """Map y [B, classes] to one channel [B, 1, H, W] by a linear layer and a ReLU (section 4.1)."""
    return nn.Sequential(nn.Linear(classes, prod(size)), nn.ReLU(), nn.Unflatten(1, (1, *size)))

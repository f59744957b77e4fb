"""From text to image in two stages. Zhang 2016 (StackGAN), arXiv:1612.03242."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from oakleaf.config.types import NonNegativeInt, PositiveInt
from oakleaf.errors import UserError
from oakleaf.networks import dcgan, layers
from oakleaf.networks.layers import MapNorm, Norm, Size, concat_condition, dcgan_weights, height_width
from oakleaf.networks.resnet import Residual
from oakleaf.networks.text import Embedding

SD = 0.1  # where that of c begins: with 1 the text drowned in noise before G had heard it (docs/zoo/words.md)


class Augmentation(nn.Module):
    """A text y as a Gaussian: c = mu(y) + sd(y) * eps. Section 3.2. condition_width: width of y; text: of c. Mean and log sd come
    from one linear map (section 3.2); the authors' code has a LeakyReLU after it, which lets sd hardly fall below 1.
    """

    def __init__(self, condition_width: int, text: int) -> None:
        super().__init__()
        self.text = text
        self.gaussian = Embedding(condition_width, 2 * text)
        nn.init.zeros_(self.gaussian.weight.data[text:])
        nn.init.constant_(self.gaussian.bias.data[text:], math.log(SD))

    def forward(self, y: Tensor, eps: Tensor) -> Tensor:
        """y [B, condition_width], eps [B, text] ~ N(0, I) -> c [B, text]"""
        mean, log_sd = self.gaussian(y).chunk(2, 1)
        return mean + log_sd.exp() * eps

    def divergence(self, y: Tensor) -> Tensor:
        """KL(N(mu, sd^2) || N(0, I)) of each text, eq. (2), in nats: [B]"""
        mean, log_sd = self.gaussian(y).float().chunk(2, 1)
        return (0.5 * ((2 * log_sd).exp() + mean.square() - 1) - log_sd).sum(1)


class First(nn.Module):
    """Stage I: c beside the noise, then a DCGAN's generator, of whose maps the smallest go through residual `blocks`
    (the authors' code: 2). Section 3.3.

    z is noise and, as its last `text` numbers, the eps of c: what is drawn for given latents is always the same.
    """

    def __init__(
        self,
        latent: PositiveInt,
        condition_width: PositiveInt,
        channels: PositiveInt,
        size: Size,
        text: PositiveInt = 128,
        width: PositiveInt = 64,
        kernel: PositiveInt = 3,
        norm: MapNorm = "batch",
        upsample: dcgan.Upsample = "nearest",
        blocks: NonNegativeInt = 2,
    ) -> None:
        super().__init__()
        self.latent, self.text = latent, _room(latent, text)
        self.augmentation = Augmentation(condition_width, text)
        self.images = dcgan.Generator(
            latent - text, channels, size, width, kernel, norm, upsample, classes=text, blocks=blocks
        )

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """z [B, latent], y [B, condition_width] -> [B, C, H, W] in [-1, 1]"""
        noise, eps = z[:, : -self.text], z[:, -self.text :]
        return self.images(noise, self.augmentation(y, eps))


class Second(nn.Module):
    """Stage II: halves stage I's image twice, puts a c of its own beside each pixel, and after residual blocks doubles
    it up to the image. Section 3.4.

    size: of the image; small: of stage I's. z's last `text` numbers are the eps of c.
    """

    def __init__(
        self,
        latent: PositiveInt,
        condition_width: PositiveInt,
        channels: PositiveInt,
        size: Size,
        small: Size,
        text: PositiveInt = 128,
        width: PositiveInt = 64,
        blocks: PositiveInt = 2,
        kernel: PositiveInt = 3,
        norm: MapNorm = "batch",
        upsample: dcgan.Upsample = "nearest",
    ) -> None:
        super().__init__()
        self.text = _room(latent, text)
        last, bias = 4 * width, norm == "none"
        inner = dcgan.downsample_layer(width, 2 * width, 4, bias), dcgan.downsample_layer(2 * width, last, 4, bias)
        self.image = nn.Sequential(
            nn.Conv2d(channels, width, 3, 1, 1),
            nn.ReLU(),
            *_normed(inner[0], norm, 2 * width),
            *_normed(inner[1], norm, last),
        )
        self.joint = nn.Sequential(
            *_normed(nn.Conv2d(last + text, last, 3, 1, 1, bias=bias), norm, last),
            *(Residual(last, norm) for _ in range(blocks)),
        )
        widths = [max(last >> k, width // 2, 1) for k in range(2 + doublings(size, small) + 1)]
        ups = [_normed(dcgan.upsample_layer(i, o, kernel, upsample, bias), norm, o) for i, o in pairwise(widths)]
        self.larger = nn.Sequential(
            *(layer for up in ups for layer in up), nn.Conv2d(widths[-1], channels, 3, 1, 1), nn.Tanh()
        )
        dcgan_weights(self, normalised=not bias)
        self.augmentation = Augmentation(condition_width, text)

    def forward(self, z: Tensor, y: Tensor, image: Tensor) -> Tensor:
        """z [B, latent], y [B, condition_width], image [B, C, h, w] -> [B, C, H, W] in [-1, 1]"""
        c = self.augmentation(y, z[:, -self.text :])
        return self.larger(self.joint(concat_condition(self.image(image), c)))


class Frozen(nn.Module):
    """A generator that has been trained, and learns no more: no player, always in eval mode.

    network: as it was; run: where its weights are read from at the start of a new training, a run's folder or a
    checkpoint. The checkpoints of this training have them too.
    """

    def __init__(self, network: nn.Module, run: str | None = None) -> None:
        super().__init__()
        self.network, self.run = network.requires_grad_(False), run

    def train(self, mode: bool = True) -> "Frozen":
        return super().train(False)

    @torch.no_grad()
    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """z [B, d], of which it takes the first numbers, y [B, condition_width] -> [B, C, h, w] in [-1, 1]"""
        return self.network(z[:, : self.network.latent], y)


def doublings(size: Size, small: Size) -> int:
    """How often `small` has to be doubled to become `size`.

    Raises:
        UserError: no number of times, or `small` can't be halved twice.
    """
    (height, width), (h, w) = height_width(size), height_width(small)
    count = round(math.log2(height / h)) if h else 0
    if count < 1 or (h << count, w << count) != (height, width) or h % 4 or w % 4:
        raise UserError(
            f"data.size={size}: stage II makes images 2, 4, ... times as large as stage I, and its are {small}"
        )
    return count


def _room(latent: int, text: int) -> int:
    """The text's numbers of a latent, if there are others.

    Raises:
        UserError: there are none.
    """
    if latent <= text:
        raise UserError(f"model.game.prior.dim={latent}: {text} numbers are for the text, and none is left for noise")
    return text


def _normed(linear: nn.Module, kind: Norm, channels: int) -> list[nn.Module]:
    return [linear, layers.norm(kind, channels), nn.ReLU()]

"""Adaptive discriminator augmentation."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from oakleaf.augment import bands, pixels, transforms
from oakleaf.augment.adaptive import WithProbability
from oakleaf.augment.augmentation import Pair
from oakleaf.config.types import PositiveInt, Probability

Operation = Literal[
    "blit", "flip", "turn", "shift",
    "geometry", "scale", "rotate", "stretch", "translate",
    "colour", "brightness", "contrast", "invert", "hue", "saturation",
    "filter", "noise", "cutout",
]  # fmt: skip
GROUPS = {
    "blit": ("flip", "turn", "shift"),
    "geometry": ("scale", "rotate", "stretch", "translate"),
    "colour": ("brightness", "contrast", "invert", "hue", "saturation"),
}
# The strengths of appendix B
SHIFT = 0.125  # of the height and width: the largest whole-pixel shift, and the sd of the fractional one
SCALE = STRETCH = 0.2  # sd, in octaves
BRIGHTNESS = 0.2  # sd, in units of the range [-1, 1]
CONTRAST = 0.5  # sd, in octaves
SATURATION = 1.0  # sd, in octaves
BAND = 1.0  # sd of a band's amplification, in octaves
NOISE = 0.1  # sd of the noise's sd
CUTOUT = 0.5  # of the height and width


class ADA(WithProbability):
    """Adaptive discriminator augmentation: random operations, each applied to an image with probability p.

    The operations, in their order, by the groups that `ops` can name as a whole:

    - blit: `flip` left and right, `turn` by quarter turns, `shift` by whole pixels up to 1/8 of the image. The values
      of the pixels stay exactly the same.
    - geometry: `scale`, `rotate` by any angle before and after `stretch`, `translate` by a fraction of a pixel.
    - colour: `brightness`, `contrast`, `invert` the luma, `hue`, `saturation`. Grey images get the first three, and
      images of another number of channels than 1 or 3 the first two.
    - `filter`: four frequency bands are amplified.
    - `noise`: Gaussian noise. `cutout`: a rectangle of half the height and width becomes grey, that is 0.

    An image that no operation of a group was drawn for leaves the group unchanged, bit for bit. Images that are not
    square are turned by half turns only. Pictures that the images are conditioned on get blit and geometry with the
    same numbers.

    The defaults are those of the paper; with data of millions of images p stays near 0.

    Args:
        p: the probability at the beginning if `adaptive`, else throughout.
        target: r_t at which p stays (section 3).
        images: images after which p has moved by 1.
        interval: steps of the critic between two changes of p.
        ops: groups or single operations.
        adaptive: whether p follows r_t.

    Reference: Karras 2020, arXiv:2006.06676, section 3 and appendix B. The paper does not filter, add noise or cut out
    by default, as they help little (figure 4).
    """

    taps: Tensor  # [12]
    filters: Tensor  # [4, 43]

    def __init__(
        self,
        p: Probability = 0.0,
        target: float = 0.6,
        images: PositiveInt = 500_000,
        interval: PositiveInt = 4,
        ops: Sequence[Operation] = ("blit", "geometry", "colour"),
        adaptive: bool = True,
    ) -> None:
        super().__init__(p, target, images, interval, adaptive)
        self.ops = frozenset(single for name in ops for single in GROUPS.get(name, (name,)))
        self.register_buffer("taps", torch.tensor(pixels.SYM6), persistent=False)
        self.register_buffer("filters", bands.band_filters(), persistent=False)

    def augment(self, images: Tensor, condition: Tensor | None) -> Pair:
        with torch.autocast(images.device.type, enabled=False):
            both = images if condition is None else torch.cat([images, condition.to(images.dtype)], 1)
            both = self._geometry(both if both.dtype == torch.float64 else both.float())
            changed, pictures = both.split([images.shape[1], both.shape[1] - images.shape[1]], 1)
            changed = self._colour(changed)
            for name, operation in (("filter", self._filter), ("noise", self._noise), ("cutout", self._cutout)):
                if name in self.ops:
                    changed = operation(changed)
        return changed.to(images.dtype), condition if condition is None else pictures.to(condition.dtype)

    def _drawn(
        self, name: str, value: Tensor, neutral: float, used: list[Tensor], share: Tensor | float | None = None
    ) -> Tensor:
        """Return the drawn values where the operation is applied, else the neutral one.

        Args:
            name: the operation; if it is not among `ops`, it is applied nowhere.
            value: [B] or [B, 2].
            neutral: the value that changes nothing.
            used: masks [B]; the operation's own is appended.
            share: the probability, if it is not p.
        """
        if name not in self.ops:
            return torch.full_like(value, neutral)
        mask = torch.rand(len(value), device=value.device) < (self.p if share is None else share)
        used.append(mask)
        return torch.where(mask if value.dim() == 1 else mask[:, None], value, neutral)

    def _geometry(self, images: Tensor) -> Tensor:
        """Blit and general geometric transformations. An image with only blits is read at whole pixels."""
        blits: list[Tensor] = []
        generals: list[Tensor] = []
        blit, general = self._blit_inverse(images, blits), self._geometry_inverse(images, generals)
        result = images
        if blits:
            result = torch.where(_any(blits), pixels.moved(images, blit), images)
        if generals:
            resampled = pixels.resampled(images, blit @ general, self.taps.to(images.dtype))
            result = torch.where(_any(generals), resampled, result)
        return result

    def _blit_inverse(self, images: Tensor, used: list[Tensor]) -> Tensor:
        height, width = images.shape[2:]
        flip = self._drawn("flip", _integer(images, 2), 0.0, used)
        # half turns keep the shape of an image that is not square
        turns = _integer(images, 4) if height == width else 2 * _integer(images, 2)
        turns = self._drawn("turn", turns, 0.0, used)
        largest = SHIFT * _sides(images)
        shift = (_uniform(images, 2) * largest).round()
        return transforms.blit_inverse(flip, turns, self._drawn("shift", shift, 0.0, used))

    def _geometry_inverse(self, images: Tensor, used: list[Tensor]) -> Tensor:
        either = 1 - (1 - self.p) ** 0.5  # each of two rotations, so that at least one happens with probability p
        scale = self._drawn("scale", (SCALE * _normal(images)).exp2(), 1.0, used)
        before = self._drawn("rotate", math.pi * _uniform(images), 0.0, used, either)
        stretch = self._drawn("stretch", (STRETCH * _normal(images)).exp2(), 1.0, used)
        after = self._drawn("rotate", math.pi * _uniform(images), 0.0, used, either)
        shift = self._drawn("translate", SHIFT * _normal(images, 2) * _sides(images), 0.0, used)
        return transforms.geometry_inverse(scale, before, stretch, after, shift)

    def _colour(self, images: Tensor) -> Tensor:
        channels = images.shape[1]
        used: list[Tensor] = []
        brightness = self._drawn("brightness", BRIGHTNESS * _normal(images), 0.0, used)
        contrast = self._drawn("contrast", (CONTRAST * _normal(images)).exp2(), 1.0, used)
        invert = torch.zeros_like(contrast)
        if channels in (1, 3):
            invert = self._drawn("invert", _integer(images, 2), 0.0, used)
        if channels == 3:
            hue = self._drawn("hue", math.pi * _uniform(images), 0.0, used)
            saturation = self._drawn("saturation", (SATURATION * _normal(images)).exp2(), 1.0, used)
            matrix = transforms.colour_matrix(brightness, contrast, invert, hue, saturation)
            changed = (matrix[:, :, :3] @ images.flatten(2) + matrix[:, :, 3:]).view_as(images)
        else:
            gain = contrast * (1 - 2 * invert)
            changed = gain[:, None, None, None] * (images + brightness[:, None, None, None])
        return torch.where(_any(used), changed, images) if used else images

    def _filter(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        used: list[Tensor] = []
        drawn = [self._drawn("filter", (BAND * _normal(images)).exp2(), 1.0, used) for _ in bands.POWER]
        filters = bands.band_gains(torch.stack(drawn, 1)) @ self.filters.to(images.dtype)  # [B, 43]
        rows, columns = (pixels.convolution(size, filters)[:, None] for size in (height, width))
        return torch.where(_any(used), rows @ images @ columns.mT, images)

    def _noise(self, images: Tensor) -> Tensor:
        used: list[Tensor] = []
        sd = self._drawn("noise", NOISE * _normal(images).abs(), 0.0, used)
        return torch.where(_any(used), images + sd[:, None, None, None] * torch.randn_like(images), images)

    def _cutout(self, images: Tensor) -> Tensor:
        inside = []
        for size in images.shape[2:]:
            middle = torch.rand(len(images), 1, device=images.device)
            places = (torch.arange(size, device=images.device) + 0.5) / size
            inside.append((places - middle).abs() < CUTOUT / 2)
        hidden = self.chosen(len(images))[:, None, None] & inside[0][:, :, None] & inside[1][:, None, :]
        return torch.where(hidden[:, None], 0.0, images)


def _any(masks: list[Tensor]) -> Tensor:
    """Return which images at least one operation was drawn for, as bool [B, 1, 1, 1]."""
    return torch.stack(masks).any(0)[:, None, None, None]


def _sides(images: Tensor) -> Tensor:
    """Return width and height, [2], filled in on the device."""
    return torch.stack([images.new_full((), float(size)) for size in (images.shape[3], images.shape[2])])


def _uniform(images: Tensor, *shape: int) -> Tensor:
    """Draw uniform numbers in [-1, 1) for each image, [B, ...]."""
    return 2 * torch.rand(len(images), *shape, device=images.device, dtype=images.dtype) - 1


def _normal(images: Tensor, *shape: int) -> Tensor:
    """Draw standard normal numbers for each image, [B, ...]."""
    return torch.randn(len(images), *shape, device=images.device, dtype=images.dtype)


def _integer(images: Tensor, choices: int) -> Tensor:
    """Draw a whole number below `choices` for each image, as floats [B]."""
    return torch.randint(choices, (len(images),), device=images.device).to(images.dtype)

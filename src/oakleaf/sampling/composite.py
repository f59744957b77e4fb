"""Compositing picture files (`composite.py`): an object of one picture is put into another, by several methods."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from oakleaf.builder.load import gan_from_checkpoint
from oakleaf.config.types import NonNegativeFloat, PositiveFloat, PositiveInt
from oakleaf.data.decoding import UNREADABLE
from oakleaf.data.pictures import has_opacity, is_grey, to_8bit
from oakleaf.errors import UserError
from oakleaf.networks.layers import height_width
from oakleaf.runtime.checkpoint_io import read_checkpoint
from oakleaf.sampling.blending import (
    feathered,
    filled,
    gaussian_poisson_pyramid,
    gradients,
    larger,
    resized,
    seamless,
)
from oakleaf.sampling.inversion import DRAWS, LBFGS, Domain, best_of, invert
from oakleaf.sampling.latents import latent_inputs

Method = Literal["gp_gan", "gaussian_poisson", "poisson", "mixed", "feather", "copy"]
CANDIDATES = 256  # latents of which the nearest begins an inversion
METHODS: tuple[Method, ...] = ("gp_gan", "gaussian_poisson", "poisson", "mixed", "feather", "copy")


@dataclass
class Layers:
    """The pictures of a composite, all of the target's size.

    Attributes:
        source: [C, H, W] in [0, 1]; what it does not cover is continued from its border.
        target: [C, H, W] in [0, 1].
        mask: [H, W] in [0, 1]; 1 where the source is.
        opacity: of the target, as a picture of mode L; None if it has none.
    """

    source: Tensor
    target: Tensor
    mask: Tensor
    opacity: Image.Image | None = None


def read_layers(
    source: Path, target: Path, mask: Path | None, at: tuple[int, int] | None, with_extension: bool = True
) -> Layers:
    """Read the pictures of a composite and put the source at its place.

    Args:
        source: the picture with the object.
        target: the picture that it is put into; the composite has its size and its channels.
        mask: of the source's size, white where the object is; None: what is opaque in the source.
        at: x and y of the source's left upper corner in the target, in pixels; None: in the middle.
        with_extension: whether transparent pixels of the source get the colour of the nearest opaque one, so that no
            edge is seen at the border of a cut-out.

    Raises:
        UserError: a picture cannot be read; the mask has another size than the source, or is empty; nothing of the
            object, or nothing of the target, is left.
    """
    back, opacity = _read(target, "target")
    channels = 1 if is_grey(back) else 3
    front, source_opacity = _read(source, "source")
    shape = _read_mask(mask, front.size) if mask else source_opacity
    if shape is None:
        raise UserError(f"mask= is missing: {source} has no transparent pixels that would say what the object is")
    pixels, opaque = _pixels(front, channels), np.asarray(shape, dtype=np.float32) / 255
    if with_extension and source_opacity is not None:
        pixels = _extended(pixels, np.asarray(source_opacity) > 127)
    x, y = at if at is not None else ((back.width - front.width) // 2, (back.height - front.height) // 2)
    rows, columns = np.arange(back.height) - y, np.arange(back.width) - x
    near = np.ix_(np.arange(channels), rows.clip(0, front.height - 1), columns.clip(0, front.width - 1))
    covered = ((rows >= 0) & (rows < front.height))[:, None] & ((columns >= 0) & (columns < front.width))
    coverage = opaque[near[1][0], near[2][0]] * covered
    if coverage.max() <= 0.5:
        raise UserError(f"at=[{x},{y}]: the object lies outside of {target}, which has {back.width} x {back.height} px")
    if coverage.min() > 0.5:
        raise UserError(f"mask={mask or source}: it covers all of {target}, so there is nothing to blend with")
    source_pixels, target_pixels = torch.from_numpy(pixels[near]), torch.from_numpy(_pixels(back, channels))
    return Layers(source_pixels, target_pixels, torch.from_numpy(coverage), opacity)


def _read(file: Path, option: str) -> tuple[Image.Image, Image.Image | None]:
    """Return a picture as it is to be looked at, and its opacity if it has one that is not full everywhere."""
    try:
        with Image.open(file) as opened:
            picture = ImageOps.exif_transpose(opened)
            picture.load()
    except UNREADABLE as error:
        raise UserError(f"{option}={file}: can't be read as a picture ({error})") from error
    opacity = picture.convert("RGBA").getchannel("A") if has_opacity(picture) else None
    full = opacity is None or opacity.getextrema() == (255, 255)
    if not full:
        grey = is_grey(picture)
        picture = picture.convert("RGBA").convert("RGB")  # without a background: the colour below the opacity
        picture = picture.convert("L") if grey else picture
    return picture, None if full else opacity


def _read_mask(file: Path, size: tuple[int, int]) -> Image.Image:
    picture, opacity = _read(file, "mask")
    mask = opacity or to_8bit(picture, 1)
    if mask.size != size:
        raise UserError(f"mask={file}: it has {mask.width} x {mask.height} px, and the source {size[0]} x {size[1]}")
    if mask.getextrema()[1] <= 127:  # type: ignore[operator]
        raise UserError(f"mask={file}: nothing in it is white, so there is no object")
    return mask


def _pixels(picture: Image.Image, channels: int) -> np.ndarray:
    """Return [C, H, W] in [0, 1]."""
    values = np.asarray(to_8bit(picture, channels), dtype=np.float32) / 255
    return np.atleast_3d(values).transpose(2, 0, 1)


def _extended(pixels: np.ndarray, opaque: np.ndarray) -> np.ndarray:
    """Give each pixel [C, H, W] that is not opaque the colour of the nearest one that is."""
    if not opaque.any():
        return pixels
    rows, columns = distance_transform_edt(~opaque, return_distances=False, return_indices=True)
    return pixels[:, rows, columns]


class Network:
    """The generator of a run as a function from composites to blended pictures of low resolution.

    A blending network maps them. A generator of pictures from latents is inverted: its picture that is nearest to the
    composite, from the best of `CANDIDATES` latents on by L-BFGS.

    Args:
        checkpoint: a run's folder or a checkpoint file.
        device: where to compute.

    Raises:
        UserError: its generator does neither.

    Reference: Wu 2017, arXiv:1703.07195, section 3.1, supervised and unsupervised.
    """

    def __init__(self, checkpoint: str, device: str = "cpu") -> None:
        content = read_checkpoint(checkpoint)
        self.module = gan_from_checkpoint(content).to(device)
        data, game = content["hyper_parameters"]["data"], self.module.game
        self.size, self.channels = height_width(data["size"]), data["channels"]
        blends = game.translates and data["input_channels"] == self.channels
        if not blends and (game.condition is not None or getattr(game, "prior", None) is None):
            raise UserError(f"checkpoint={checkpoint}: its generator maps no composites to pictures; model=gp_gan does")

    def __call__(self, picture: Tensor) -> Tensor:
        """Map a composite [C, H, W] in [0, 1] to a blended picture of the size of the training, [C, h, w]."""
        fitting = picture.expand(3, -1, -1) if self.channels == 3 else picture.mean(0, keepdim=True)
        composite = (2 * resized(fitting.float(), self.size)[None] - 1).to(self.module.device)
        output = self.module.sample({"input": composite}) if self.module.game.translates else self.nearest(composite)
        blended = ((output[0].cpu() + 1) / 2).clamp(0, 1)
        return blended.mean(0, keepdim=True) if len(picture) == 1 else blended.expand(len(picture), -1, -1)

    def nearest(self, composite: Tensor) -> Tensor:
        """Return the generator's image that is nearest to a composite [1, C, h, w] in [-1, 1]."""

        def generate(z: Tensor, _: Tensor) -> Tensor:
            return game.generate({"latent": z}).float()

        def distance(_: Tensor, images: Tensor, targets: Tensor) -> Tensor:
            return (images - targets).square().flatten(1).mean(1)

        with self.module.ema_scope() as game:
            draws = latent_inputs(game, DRAWS, 0)["latent"].to(composite.device)
            start = best_of(generate, composite, draws[:CANDIDATES], distance)
            found = invert(generate, composite, start, Domain.of(draws), distance, LBFGS(), [0])
            return generate(found.latents, found.latents)


@dataclass
class Compositor:
    """A method of compositing.

    `copy` pastes; `feather` pastes with a soft border; `poisson` and `mixed` clone seamlessly (Perez 2003), the latter
    with the larger of both gradients; `gaussian_poisson` solves the Gaussian-Poisson equation from coarse to fine with
    the target's colours, continued below the object; `gp_gan` with those of a blending GAN.

    Args:
        method: its name.
        beta: weight of the colours in the Gaussian-Poisson equation; smaller values keep more texture.
        sigma: of its Gaussian, in pixels.
        softness: standard deviation of the soft border of `feather`, in pixels.
        base: longer side of the coarsest level, in pixels; null: that of the network, else 64.
        network: of `gp_gan`.

    Reference: Wu 2017, arXiv:1703.07195; Perez 2003, doi:10.1145/882262.882269.
    """

    method: Method = "gaussian_poisson"
    beta: NonNegativeFloat = 1.0
    sigma: PositiveFloat = 0.5
    softness: NonNegativeFloat = 3.0
    base: PositiveInt | None = None
    network: Network | None = None

    def __post_init__(self) -> None:
        if self.method == "gp_gan" and self.network is None:
            raise UserError("method=gp_gan: checkpoint= is missing, a run of model=gp_gan; or method=gaussian_poisson")

    def __call__(self, layers: Layers) -> Tensor:
        """Return the composite [C, H, W] in [0, 1]."""
        source, target, mask = layers.source, layers.target, layers.mask
        if self.method in ("copy", "feather"):
            soft = feathered(mask, self.softness) if self.method == "feather" else mask
            return torch.lerp(target, source, soft)
        if self.method in ("poisson", "mixed"):
            field = gradients(source)
            field = larger(field, gradients(target)) if self.method == "mixed" else field
            return seamless(field, target, mask > 0.5).clamp(0, 1)
        base = self.base or (max(self.network.size) if self.network else 64)
        return gaussian_poisson_pyramid(source, target, mask, self.colours, self.beta, self.sigma, base)

    def colours(self, source: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Return the colours of the coarsest level, [C, h, w]."""
        if self.method == "gp_gan":
            assert self.network is not None
            return resized(self.network(torch.lerp(target, source, mask)), (target.shape[1], target.shape[2]))
        inside = mask > 0.5
        return target if bool(inside.all()) else filled(target, inside)


def as_picture(composite: Tensor, opacity: Any = None) -> Image.Image:
    """Return a composite [C, H, W] in [0, 1] as a picture, with the target's opacity."""
    pixels = composite.mul(255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    if opacity is not None:
        picture.putalpha(opacity)
    return picture

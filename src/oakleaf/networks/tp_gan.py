"""The networks of TP-GAN, which turns a face to the front: a global path for the whole face, local ones for its parts.

Reference: Huang 2017, arXiv:1704.04086, section 3.1; layers from the authors' code HRLTY/TP-GAN.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample, interpolate, pad

from oakleaf.config.types import NonNegativeFloat, NonNegativeInt, PositiveInt
from oakleaf.errors import UserError
from oakleaf.networks.layers import Norm, Size, apply_spectral_norm, height_width, init_dcgan_, nearest_size, norm
from oakleaf.round import CriticOutput, GeneratorOutput

SLOPE = 0.2
HALVINGS = 4


class Part(NamedTuple):
    """A part of a frontal face.

    Attributes:
        x, y: its centre, as shares of the picture's sides.
        width, height: as shares of the picture's sides.
        points: numbers of the landmarks whose mean is its centre in a turned face, of the usual 68.
    """

    x: float
    y: float
    width: float
    height: float
    points: tuple[int, int]


# the frontal means and the sizes of the authors' code, in 128 px; of their mouth, the middle between its corners
PARTS = {
    "left_eye": Part(43.6 / 128, 41.0 / 128, 40 / 128, 40 / 128, (36, 42)),
    "right_eye": Part(86.4 / 128, 41.0 / 128, 40 / 128, 40 / 128, (42, 48)),
    "nose": Part(64.1 / 128, 64.8 / 128, 40 / 128, 32 / 128, (30, 31)),
    "mouth": Part(65.1 / 128, 89.0 / 128, 48 / 128, 32 / 128, (48, 68)),
}


def cropped(images: Tensor, centres: Tensor, part: Part) -> Tensor:
    """Cut a part out of each image, bilinearly; what lies outside of the image repeats its border.

    Args:
        images: [B, C, H, W].
        centres: x and y of the part in each image, as shares of its sides [B, 2].
        part: its size.

    Returns:
        [B, C, h, w].
    """
    height, width = part_size(part, images)
    theta = images.new_zeros(len(images), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = width / images.shape[3], height / images.shape[2]
    theta[:, :, 2] = 2 * centres - 1
    grid = affine_grid(theta, [len(images), images.shape[1], height, width], align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)


def part_size(part: Part, images: Tensor) -> tuple[int, int]:
    """Return height and width of a part in pixels of images [B, C, H, W]."""
    return max(2, round(part.height * images.shape[2])), max(2, round(part.width * images.shape[3]))


def frontal(part: Part, images: Tensor) -> Tensor:
    """Return a part's frontal centre for each of the images, [B, 2], moved to whole pixels for `paste`."""
    top, left = _corner(part, images)
    height, width = part_size(part, images)
    centre = images.new_tensor([(left + width / 2) / images.shape[3], (top + height / 2) / images.shape[2]])
    return centre.expand(len(images), -1)


def paste(maps: Tensor, part: Part, images: Tensor) -> Tensor:
    """Put the maps of a part [B, C, h, w] at its frontal place in maps of zeros of the images' size."""
    top, left = _corner(part, images)
    height, width = maps.shape[2:]
    return pad(maps, (left, images.shape[3] - left - width, top, images.shape[2] - top - height))


def _corner(part: Part, images: Tensor) -> tuple[int, int]:
    """Return the first row and column of a part, so that it lies within the image."""
    height, width = part_size(part, images)
    top, left = round(part.y * images.shape[2] - height / 2), round(part.x * images.shape[3] - width / 2)
    return min(max(top, 0), images.shape[2] - height), min(max(left, 0), images.shape[3] - width)


class _Residual(nn.Module):
    """Two convolutions of one kernel with normalisation, added to their input."""

    def __init__(self, channels: int, kernel: int, kind: Norm) -> None:
        super().__init__()
        same: Any = {"padding": "same", "bias": kind == "none"}
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, kernel, **same), norm(kind, channels), nn.LeakyReLU(SLOPE),
            nn.Conv2d(channels, channels, kernel, **same), norm(kind, channels),
        )  # fmt: skip
        self.activation = nn.LeakyReLU(SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.layers(x) + x)


def _down(inputs: int, outputs: int, kernel: int, stride: int, kind: Norm) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=kind == "none")
    return nn.Sequential(convolution, norm(kind, outputs), nn.LeakyReLU(SLOPE))


def _up(inputs: int, outputs: int, kind: Norm, factor: int = 2) -> nn.Module:
    kernel = 4 if factor == 2 else factor
    layer = nn.ConvTranspose2d(inputs, outputs, kernel, factor, (kernel - factor) // 2, bias=kind == "none")
    return nn.Sequential(layer, norm(kind, outputs), nn.ReLU())


class LocalPath(nn.Module):
    """A small U-Net for one part of a face, of any size.

    Args:
        channels: of the image of the part.
        inputs: of what it is computed from.
        width: channels of the largest map.
        kind: normalisation.
    """

    def __init__(self, channels: int, inputs: int, width: int, kind: Norm) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.down = nn.ModuleList([nn.Sequential(_down(inputs, width, 3, 1, "none"), _Residual(width, 3, kind))])
        for before, after in pairwise(widths):
            self.down.append(nn.Sequential(_down(before, after, 3, 2, kind), _Residual(after, 3, kind)))
        self.up = nn.ModuleList(
            nn.Sequential(_down(before + after, after, 3, 1, kind), _Residual(after, 3, kind))
            for before, after in zip(widths[:0:-1], widths[-2::-1])
        )
        self.image = nn.Sequential(nn.Conv2d(width, channels, 3, padding=1), nn.Tanh())

    def forward(self, part: Tensor) -> tuple[Tensor, Tensor]:
        """Map parts [B, inputs, h, w] to maps [B, width, h, w] and images [B, channels, h, w] in [-1, 1]."""
        maps = [part]
        for layer in self.down:
            maps.append(layer(maps[-1]))
        x = maps.pop()
        for layer in self.up:
            skip = maps.pop()
            x = layer(torch.cat([interpolate(x, skip.shape[2:]), skip], 1))
        return x, self.image(x)


class Generator(nn.Module):
    """Turn faces to the front.

    The input is looked at together with its mirror image. The global path encodes it to a vector of features and
    decodes that, with noise, through maps of growing size that take in the encoder's maps and the input itself; it also
    makes images of a half and a quarter of the size. The local paths turn eyes, nose and mouth, which are put at their
    frontal places and fused by a maximum.

    Where the parts are in a turned face is said by a frozen network that finds the 68 usual landmarks, if it is named;
    without one they are looked for at their frontal places.

    Args:
        channels: of an image.
        inputs: channels of the input.
        size: in pixels, a multiple of 16.
        width: channels of the largest map.
        features: length of the feature vector.
        latent: length of the noise.
        sd: standard deviation of the noise in training; in eval mode there is none.
        norm: normalisation.
        local: whether there are local paths; the ablation of section 4.4.
        landmarks: the name of a frozen network whose embedding is x_0, y_0, x_1, ... of 68 points as shares of the
            picture's sides (`oakleaf.frozen.Landmarks68`); null: none.

    Raises:
        UserError: the size is no multiple of 16.
    """

    multiple: int | None = None  # the feature vector is that of one size

    def __init__(
        self,
        channels: PositiveInt,
        inputs: PositiveInt,
        size: Size,
        width: PositiveInt = 64,
        features: PositiveInt = 256,
        latent: NonNegativeInt = 100,
        sd: NonNegativeFloat = 0.02,
        norm: Norm = "batch",
        local: bool = True,
        landmarks: str | None = None,
    ) -> None:
        super().__init__()
        height, width_px = height_width(size)
        if height % (1 << HALVINGS) or width_px % (1 << HALVINGS):
            fits = nearest_size(size, 1 << HALVINGS, 32)
            raise UserError(f"data.size={size}: TP-GAN halves it four times, so sides are multiples of 16: {fits}")
        self.latent, self.sd, self.landmarks = latent, sd, landmarks
        self.networks: tuple[Any, ...] = ()  # the frozen network of landmarks, which is no submodule of this one
        self.base = (height >> HALVINGS, width_px >> HALVINGS)
        w, seen = width, 2 * inputs
        self.encoder = _encoder(seen, w, norm)
        flat = 8 * w * self.base[0] * self.base[1]
        self.features = nn.Linear(flat, 2 * features)  # of which the larger of each pair is taken
        self.first = nn.Sequential(
            nn.Linear(features + latent, w * self.base[0] * self.base[1]), nn.ReLU(), nn.Unflatten(1, (w, *self.base))
        )
        small = [max(1, w // k) for k in (2, 4, 8)]
        self.initial = nn.ModuleList(
            [_up(w, small[0], norm, 4), _up(small[0], small[1], norm), _up(small[1], small[2], norm)]
        )
        self.parts = nn.ModuleDict(
            {name: LocalPath(channels, inputs * (1 + (name == "right_eye")), w, norm) for name in PARTS if local}
        )
        fused = w + channels if local else 0
        self.stages = nn.ModuleList(
            [
                _Stage(8 * w + w, 8 * w, 3, norm),  # the smallest map
                _Stage(8 * w + 4 * w, 8 * w, 2, norm, above=9 * w),
                _Stage(4 * w + 2 * w + seen + small[0], 4 * w, 2, norm, above=8 * w, up=4 * w),
                _Stage(2 * w + w + seen + small[1] + channels, 2 * w, 2, norm, above=4 * w, up=2 * w),
                _Stage(w + w + seen + small[2] + channels + fused, w, 1, norm, above=2 * w, up=w),
            ]
        )
        self.image_quarter, self.image_half = (_image(k * w, channels) for k in (4, 2))
        self.image = nn.Sequential(_down(w, max(1, w // 2), 3, 1, norm), _image(max(1, w // 2), channels))
        init_dcgan_(self, normalised=norm != "none")

    def use_frozen(self, networks: Mapping[str, Any]) -> None:
        """Take the game's frozen networks, of which one may find landmarks.

        Raises:
            UserError: there is none of the name that was given.
        """
        if self.landmarks is not None:
            if self.landmarks not in networks:
                raise UserError(f"model.frozen.{self.landmarks} is missing, which finds the parts of faces")
            self.networks = (networks[self.landmarks],)

    def forward(self, x: Tensor) -> GeneratorOutput:
        """Turn faces x [B, inputs, H, W] to the front.

        Returns:
            The image [B, C, H, W] in [-1, 1], and besides it `half` and `quarter`, images of these sizes; `parts`, the
            images of the parts by name; `features` [B, features].
        """
        both = torch.cat([x, x.flip(3)], 1)
        skips = self._encode(both)
        features = self.features(skips[-1].flatten(1)).unflatten(1, (-1, 2)).amax(2)
        noise = self.sd * torch.randn(len(x), self.latent).to(x) if self.training else x.new_zeros(len(x), self.latent)
        initial = [self.first(torch.cat([features, noise], 1))]
        for layer in self.initial:
            initial.append(layer(initial[-1]))
        resized = [interpolate(both, scale_factor=1 / k, mode="area") for k in (4, 2)]
        maps, images = self._local(x)
        x8 = self.stages[0](None, skips[4], initial[0])
        x16 = self.stages[1](torch.cat([x8, initial[0]], 1), skips[3])
        x32 = self.stages[2](x16, skips[2], resized[0], initial[1])
        quarter = self.image_quarter(x32)
        x64 = self.stages[3](x32, skips[1], resized[1], initial[2], interpolate(quarter, scale_factor=2))
        half = self.image_half(x64)
        x128 = self.stages[4](x64, skips[0], both, initial[3], interpolate(half, scale_factor=2), *maps)
        extras = {"half": half, "quarter": quarter, "parts": images, "features": features}
        return GeneratorOutput(self.image(x128), extras)

    def _encode(self, both: Tensor) -> list[Tensor]:
        """Return the maps of the encoder from the largest to the smallest."""
        skips = []
        for layer in self.encoder:
            both = layer(both)
            skips.append(both)
        return skips

    def _local(self, x: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return the fused maps and images of the parts, and the images of the parts by name."""
        if not self.parts:
            return [], {}
        found: dict[str, tuple[Tensor, Tensor]] = {}
        centres = self.centres(x)
        cut = {name: cropped(x, centres[name], part) for name, part in PARTS.items()}
        cut["right_eye"] = torch.cat([cut["right_eye"], cut["left_eye"]], 1)  # the visible eye helps the other one
        for name, path in self.parts.items():
            found[name] = path(cut[name])
        maps = _fused([paste(one[0], PARTS[name], x) for name, one in found.items()])
        images = _fused([paste(one[1] + 1, PARTS[name], x) for name, one in found.items()]) - 1
        return [maps, images], {name: image for name, (_, image) in found.items()}

    def centres(self, x: Tensor) -> dict[str, Tensor]:
        """Return where each part is in faces x, as shares of the picture's sides, [B, 2] by name."""
        if not self.networks:
            return {name: frontal(part, x) for name, part in PARTS.items()}
        with torch.no_grad():
            points = self.networks[0](x).embedding.unflatten(1, (-1, 2)).to(x.dtype)
        return {name: points[:, slice(*part.points)].mean(1) for name, part in PARTS.items()}


class _Stage(nn.Module):
    """A map of the decoder: the smaller map enlarged, joined with others, and residual layers."""

    def __init__(self, joined: int, outputs: int, blocks: int, kind: Norm, above: int = 0, up: int = 0) -> None:
        super().__init__()
        self.up = _up(above, up or outputs, kind) if above else None
        self.join = _down(joined, outputs, 3, 1, kind)
        self.blocks = nn.Sequential(*(_Residual(outputs, 3, kind) for _ in range(blocks)))

    def forward(self, smaller: Tensor | None, *others: Tensor) -> Tensor:
        maps = others if self.up is None else (self.up(smaller), *others)
        return self.blocks(self.join(torch.cat(maps, 1)))


def _encoder(inputs: int, w: int, kind: Norm) -> nn.ModuleList:
    """Return the layers of the global encoder, of which each but the first halves the map."""
    widths, kernels = [w, w, 2 * w, 4 * w, 8 * w], [7, 5, 3, 3, 3]
    layers: Sequence[nn.Module] = [
        nn.Sequential(
            _down(
                inputs if k == 0 else widths[k - 1],
                widths[k],
                kernels[k],
                1 if k == 0 else 2,
                "none" if k == 0 else kind,
            ),
            *(_Residual(widths[k], kernels[k], kind) for _ in range(4 if k == HALVINGS else 1)),
        )
        for k in range(HALVINGS + 1)
    ]
    return nn.ModuleList(layers)


def _image(inputs: int, channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, channels, 3, padding=1), nn.Tanh())


def _fused(maps: list[Tensor]) -> Tensor:
    """Return the larger of overlapping maps at each place; 0 where there is none, so maps should not be negative."""
    result = maps[0].clamp(min=0)
    for other in maps[1:]:
        result = torch.maximum(result, other)
    return result


class Discriminator(nn.Module):
    """Score frontal faces by places: a map of logits a thirty-second of the image's size.

    Args:
        channels: of an image.
        width: channels of the first map.
        norm: normalisation of all layers but the first.

    Reference: the authors' code: 4 x 4 logits for 128 px; Huang 2017, section 3.2.3.
    """

    per_sample = True

    def __init__(self, channels: PositiveInt, width: PositiveInt = 64, norm: Norm = "batch") -> None:
        super().__init__()
        kind: Norm = "none" if norm == "spectral" else norm
        widths = [width << min(k, 3) for k in range(5)]
        layers: list[nn.Module] = [_down(channels, widths[0], 3, 2, "none")]
        for before, after in pairwise(widths[:4]):
            layers.append(_down(before, after, 3, 2, kind))
        layers += [
            _Residual(widths[3], 3, kind),
            _down(widths[3], widths[4], 3, 2, kind),
            _Residual(widths[4], 3, kind),
        ]
        self.layers = nn.Sequential(*layers)
        self.score = nn.Conv2d(widths[4], 1, 1)
        init_dcgan_(self, normalised=kind != "none")
        if norm == "spectral":
            apply_spectral_norm(self)

    def forward(self, x: Tensor, y: Tensor | None = None) -> CriticOutput:
        """Score images [B, C, H, W], [B, 1, h, w]; the input y, from which they may be generated, is not looked at."""
        maps = self.layers(x)
        return CriticOutput(self.score(maps).float(), features=maps.flatten(1))

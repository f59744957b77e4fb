"""Conversion between tensors and images, sample grids, and animations."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import make_grid

MAX_CHANNELS = 8  # columns of a picture of images with other channels than grey, colour and opacity
MAX_CHANNEL_ROWS = 32
HEADER = 16  # pixels above it, for the numbers of the channels
MIN_WIDTH = 512  # pixels; smaller grids are enlarged by an integer factor


def to_bytes(images: Tensor) -> Tensor:
    """Convert images [B, C, H, W] in [-1, 1] to uint8 on the CPU, each value rounded to the nearest."""
    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).cpu()


def from_bytes(pixels: Tensor) -> Tensor:
    """Convert images as they are stored, uint8, to float in [-1, 1]; points, stored as float, stay as they are."""
    return pixels.float() / 127.5 - 1 if pixels.dtype == torch.uint8 else pixels


def as_bytes(pixels: Tensor) -> Tensor:
    """Return images as they are stored as uint8, on their device; floating point is in [-1, 1]."""
    if pixels.dtype == torch.uint8:
        return pixels
    return pixels.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def are_points(images: Tensor) -> bool:
    """Return whether the rows are points of a space, [B, d, 1, 1], and not images."""
    return images.shape[2:] == (1, 1)


def image_grid(images: Tensor, columns: int | None = None) -> Image.Image:
    """Arrange images [B, C, H, W] in [-1, 1] in a grid.

    Args:
        images: the images, row by row.
        columns: images in a row; None: as many as make the grid about square.
    """
    if images.shape[1] not in (1, 3, 4):
        return _channel_grid(images)
    columns = columns or math.ceil(math.sqrt(len(images)))
    pixels = make_grid(to_bytes(images), nrow=columns, padding=2, pad_value=255)
    grid = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    zoom = math.ceil(MIN_WIDTH / grid.width)
    return grid.resize((grid.width * zoom, grid.height * zoom), Image.Resampling.NEAREST)


def _channel_grid(images: Tensor) -> Image.Image:
    """Draw images of other numbers of channels: a row for each image, with each channel in grey in its own column."""
    channels = min(images.shape[1], MAX_CHANNELS)
    rows = images[:MAX_CHANNEL_ROWS, :channels]
    grid = image_grid(rows.flatten(0, 1)[:, None], channels).convert("RGB")
    of = f" of {images.shape[1]}" if images.shape[1] > channels else ""
    titled = Image.new("RGB", (grid.width, grid.height + HEADER), "white")
    titled.paste(grid, (0, HEADER))
    draw, width = ImageDraw.Draw(titled), grid.width / channels
    for number in range(channels):
        draw.text((number * width + 4, 1), f"channel {number}{of}", "black", ImageFont.load_default(11))
    return titled


def scatter(points: Tensor) -> Image.Image:
    """Draw points [B, 2, 1, 1] on the square [-1.1, 1.1]^2: the more points at a place, the darker."""
    place = ((points.float().cpu().flatten(1) / 2.2 + 0.5) * MIN_WIDTH).long()
    inside = place[((place >= 0) & (place < MIN_WIDTH)).all(1)]
    count = torch.zeros(MIN_WIDTH, MIN_WIDTH)
    count.index_put_((MIN_WIDTH - 1 - inside[:, 1], inside[:, 0]), torch.ones(len(inside)), accumulate=True)
    dots = torch.nn.functional.max_pool2d(count[None, None], 3, 1, 1)[0, 0]  # each point as 3 x 3 pixels
    return Image.fromarray((255 * 0.5 ** (dots + (dots > 0))).to(torch.uint8).numpy())


def render(images: Tensor, columns: int | None = None, most: int | None = None) -> Image.Image:
    """Draw samples of any kind as one image.

    Images are arranged in a grid, points of the plane are drawn where they lie, and longer vectors [B, d, 1, 1] become
    the rows of one image, in which 0 is grey and three standard deviations are black and white.

    Args:
        images: the samples, [B, C, H, W].
        columns: images in a row of the grid; None: as many as make it about square.
        most: only the first so many images or vectors are drawn; all points of the plane are.
    """
    if not are_points(images):
        return image_grid(images[:most], columns)
    if images.shape[1] == 2:
        return scatter(images)
    vectors = images[:most].float().flatten(1)
    return image_grid(vectors[None, None] / (3 * vectors.square().mean().sqrt() + 1e-8))


def interleave(*columns: Tensor) -> Tensor:
    """Take one image of each of n sets in turn: the first ones, then the second ones, and so on.

    Args:
        columns: sets of images, [B, c, H, W] each. All are returned with the number of channels C of the last set: one
            channel is repeated to show it in grey, colours are averaged where C is 1, and a channel besides grey or
            colours (a mask) is left out.

    Returns:
        [n B, C, H, W].
    """
    last = columns[-1]
    channels = last.shape[1]
    return torch.stack([_with_channels(column.to(last), channels) for column in columns], 1).flatten(0, 1)


def _with_channels(images: Tensor, channels: int) -> Tensor:
    visible = images if images.shape[1] == channels else images[:, : 1 if images.shape[1] < 3 else 3]
    return visible if visible.shape[1] == channels else visible.mean(1, keepdim=True).expand(-1, channels, -1, -1)


def captioned_grid(pixels: Tensor, captions: Sequence[Sequence[str]], columns: int = 2) -> Image.Image:
    """Arrange images in a grid, with a caption to the right of each.

    Args:
        pixels: the images, uint8 [N, 3, H, W].
        captions: the lines of each image's caption; long lines are wrapped.
        columns: images in a row.
    """
    font, height = ImageFont.load_default(13), 96
    width, rows = height + 400, math.ceil(len(pixels) / columns)
    grid = Image.new("RGB", (columns * width, rows * (height + 8)), "white")
    draw = ImageDraw.Draw(grid)
    for i, (image, lines) in enumerate(zip(pixels, captions)):
        x, y = i % columns * width, i // columns * (height + 8) + 4
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        grid.paste(picture.resize((height, height), Image.Resampling.BICUBIC), (x, y))
        wrapped = [part for line in lines for part in textwrap.wrap(line, 56)]
        draw.text((x + height + 8, y), "\n".join(wrapped[:6]), "black", font)
    return grid


def save_gif(frames: Sequence[Path], path: Path, seconds: float = 6.0) -> None:
    """Join image files to an animated GIF, whose last frame stays for a second.

    All frames share one palette, because computing a palette takes half a second per frame.

    Args:
        frames: the files, of one size.
        path: where the GIF is written.
        seconds: duration of the animation; a frame lasts at least 20 ms, since browsers slow down shorter ones.
    """
    palette = _shared_palette(frames[:: -math.ceil(len(frames) / 8)])
    images = [Image.open(frame).convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    duration = max(20, int(1000 * seconds / len(images)))  # ms
    durations = [duration] * (len(images) - 1) + [1000]
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations, loop=0)


def _shared_palette(frames: Sequence[Path]) -> Image.Image:
    """Compute 256 colours for image files of one size, from all of them in one image."""
    images = [Image.open(frame).convert("RGB") for frame in frames]
    strip = Image.new("RGB", (images[0].width, sum(image.height for image in images)))
    for i, image in enumerate(images):
        strip.paste(image, (0, i * images[0].height))
    return strip.reduce(2).quantize()

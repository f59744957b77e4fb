"""Tensors as pictures: sheets and films."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import make_grid

LEAST_WIDTH = 512  # px; smaller sheets are enlarged by a whole number


def to_bytes(images: Tensor) -> Tensor:
    """[B, C, H, W] in [-1, 1] -> uint8 on the CPU, each value to its nearest."""
    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).cpu()


def image_grid(images: Tensor, columns: int | None = None) -> Image.Image:
    """Images [B, C, H, W] in [-1, 1] side by side, as square as it goes unless `columns` says otherwise."""
    columns = columns or math.ceil(math.sqrt(len(images)))
    grid = make_grid(to_bytes(images), nrow=columns, padding=2, pad_value=255)
    render = Image.fromarray(grid.permute(1, 2, 0).numpy())
    zoom = math.ceil(LEAST_WIDTH / render.width)
    return render.resize((render.width * zoom, render.height * zoom), Image.Resampling.NEAREST)


def from_bytes(pixels: Tensor) -> Tensor:
    """Images as they are stored in [-1, 1]; points stay as they are."""
    return pixels.float() / 127.5 - 1 if pixels.dtype == torch.uint8 else pixels


def scatter(points: Tensor) -> Image.Image:
    """Points [B, 2, 1, 1] on the square [-1.1, 1.1]^2, grey where there are few, black where there are many."""
    place = ((points.float().cpu().flatten(1) / 2.2 + 0.5) * LEAST_WIDTH).long()
    inside = place[((place >= 0) & (place < LEAST_WIDTH)).all(1)]
    count = torch.zeros(LEAST_WIDTH, LEAST_WIDTH)
    count.index_put_((LEAST_WIDTH - 1 - inside[:, 1], inside[:, 0]), torch.ones(len(inside)), accumulate=True)
    with_instance_noise = torch.nn.functional.max_pool2d(count[None, None], 3, 1, 1)[0, 0]  # a dot of three pixels
    return Image.fromarray((255 * 0.5 ** (with_instance_noise + (with_instance_noise > 0))).to(torch.uint8).numpy())


def interleave(*columns: Tensor) -> Tensor:
    """The first of each of the columns [B, c, H, W], then their second, ...: [n B, C, H, W], all with the channels of
    the last column. Pictures with one channel are shown grey, and where those have one, so are colours; a channel that
    is beside grey or colours (a mask) is left out."""
    images = columns[-1]
    count = images.shape[1]
    shown = [_with_channels(column.to(images), count) for column in columns]
    return torch.stack(shown, 1).flatten(0, 1)


def _with_channels(images: Tensor, count: int) -> Tensor:
    seen = images if images.shape[1] == count else images[:, : 1 if images.shape[1] < 3 else 3]
    return seen if seen.shape[1] == count else seen.mean(1, keepdim=True).expand(-1, count, -1, -1)


def are_points(images: Tensor) -> bool:
    """Whether they are points of a space, a coordinate in each channel, and no pictures."""
    return images.shape[2:] == (1, 1)


def render(images: Tensor, columns: int | None = None, most: int | None = None) -> Image.Image:
    """What to look at: a sheet of images, the first `most` of them; where all points of the plane lie; or vectors as
    the rows of one image, 0 in grey, black and white three standard deviations away."""
    if not are_points(images):
        return image_grid(images[:most], columns)
    if images.shape[1] == 2:
        return scatter(images)
    vectors = images[:most].float().flatten(1)
    return image_grid(vectors[None, None] / (3 * vectors.square().mean().sqrt() + 1e-8))


def with_captions(pixels: Tensor, lines: Sequence[Sequence[str]], columns: int = 2) -> Image.Image:
    """Images uint8 [N, 3, H, W] with lines of text at the right of each, wrapped."""
    font, high = ImageFont.load_default(13), 96
    wide, rows = high + 400, math.ceil(len(pixels) / columns)
    whole = Image.new("RGB", (columns * wide, rows * (high + 8)), "white")
    pen = ImageDraw.Draw(whole)
    for i, (image, text) in enumerate(zip(pixels, lines)):
        x, y = i % columns * wide, i // columns * (high + 8) + 4
        whole.paste(
            Image.fromarray(image.permute(1, 2, 0).numpy()).resize((high, high), Image.Resampling.BICUBIC), (x, y)
        )
        wrapped = [part for line in text for part in textwrap.wrap(line, 56)]
        pen.text((x + high + 8, y), "\n".join(wrapped[:6]), "black", font)
    return whole


def save_gif(frames: Sequence[Path], path: Path, seconds: float = 6.0) -> None:
    """An animated GIF of pictures, its last one held for a second. All have one palette: one for each would take half a
    second a picture."""
    palette = _palette(frames[:: -math.ceil(len(frames) / 8)])
    pictures = [
        Image.open(frame).convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames
    ]
    each = max(20, int(1000 * seconds / len(pictures)))  # ms; browsers slow down what is shorter
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=[each] * (len(pictures) - 1) + [1000], loop=0
    )


def _palette(frames: Sequence[Path]) -> Image.Image:
    """The 256 colours that pictures of one size need together."""
    each = [Image.open(frame).convert("RGB") for frame in frames]
    strip = Image.new("RGB", (each[0].width, sum(render.height for render in each)))
    for i, render in enumerate(each):
        strip.paste(render, (0, i * each[0].height))
    return strip.reduce(2).quantize()

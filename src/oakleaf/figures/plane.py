"""Points of the plane, with axes, the means of the true modes, and the discriminator's output as background."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from oakleaf.figures.text import font_for, line_height, shorten, text_width

SIDE = 512  # pixels of the square that is drawn
REACH = 1.1  # the square is [-REACH, REACH]^2
TICKS = (-1.0, -0.5, 0.0, 0.5, 1.0)
SIZE = 14  # of the font, in pixels
LEFT, RIGHT, LINE = 56, 88, line_height(SIZE)  # margins, in pixels; the right one holds the scale of the background
MODE, TEXT, FAINT = "#d62728", "#222222", "#999999"
LOW, MIDDLE, HIGH = (178, 24, 43), (247, 247, 247), (33, 102, 172)  # ends and middle of ColorBrewer's scale RdBu


@dataclass(frozen=True)
class Background:
    """Values on a regular grid of points in the plane, drawn in colours from red (low) to blue (high).

    Args:
        values: [n, n]; row i and column j are the place (x_j, y_i), both from -REACH to REACH.
        name: what the values are, such as "D(x)".
        low: the value that is red.
        high: the value that is blue.
    """

    values: Tensor
    name: str
    low: float
    high: float


def plane_points(count: int) -> Tensor:
    """Return the points of a regular grid in the order of `Background.values`, [count^2, 2, 1, 1]."""
    places = torch.linspace(-REACH, REACH, count)
    y, x = torch.meshgrid(places, places, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1)[:, :, None, None]


def draw_plane(
    points: Tensor,
    modes: Tensor | None = None,
    background: Background | None = None,
    title: str = "",
    note: str = "",
    captions: bool = True,
) -> Image.Image:
    """Draw points on the square [-1.1, 1.1]^2: the more points at a place, the darker.

    Args:
        points: [B, 2, 1, 1].
        modes: means of the true modes, [K, 2], drawn as circles; None: none.
        background: the discriminator's output in the plane; None: white.
        title: text above the picture.
        note: text in the title's line, on the right.
        captions: whether axes, title, modes and background are drawn, or the points alone.
    """
    if not captions:
        return Image.fromarray(_darkness(points)).convert("RGB").resize((SIDE, SIDE), Image.Resampling.NEAREST)
    head, foot = (LINE + 8 if title or note else 8), 2 * LINE + 12
    size = LEFT + SIDE + (RIGHT if background else 16), head + SIDE + foot + (LINE if modes is not None else 0)
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    canvas.paste(_square(points, modes, background), (LEFT, head))
    _draw_title(draw, title, note, canvas.width)
    _draw_axes(draw, head)
    if background:
        _draw_scale(canvas, background, head)
    outside = int((points.flatten(1).abs() > REACH).any(1).sum())
    _draw_legend(draw, len(points), outside, modes is not None, head + SIDE + LINE + 12)
    return canvas


def _darkness(points: Tensor) -> np.ndarray:
    """Return the grey levels of the square, [SIDE, SIDE] uint8; each point is 3 x 3 pixels."""
    place = ((points.float().cpu().flatten(1) / (2 * REACH) + 0.5) * SIDE).nan_to_num(-1).long()
    inside = place[((place >= 0) & (place < SIDE)).all(1)]
    count = torch.zeros(SIDE, SIDE)
    count.index_put_((SIDE - 1 - inside[:, 1], inside[:, 0]), torch.ones(len(inside)), accumulate=True)
    dots = torch.nn.functional.max_pool2d(count[None, None], 3, 1, 1)[0, 0]
    grey: np.ndarray = (255 * 0.5 ** (dots + (dots > 0))).to(torch.uint8).numpy()
    return grey


def _square(points: Tensor, modes: Tensor | None, background: Background | None) -> Image.Image:
    """Draw the background, the points and the modes."""
    grey = Image.fromarray(_darkness(points))
    if background is None:
        square = grey.convert("RGB")
    else:
        values = (background.values - background.low) / max(background.high - background.low, 1e-12)
        square = Image.fromarray(_colours(values.flip(0).float().cpu().numpy()))
        square = square.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        square.paste(Image.new("RGB", square.size, "black"), (0, 0), Image.fromarray(255 - np.asarray(grey)))
    draw = ImageDraw.Draw(square)
    for x, y in modes.tolist() if modes is not None else []:
        centre = (x / (2 * REACH) + 0.5) * SIDE, (0.5 - y / (2 * REACH)) * SIDE
        draw.circle(centre, 9, outline="white", width=4)
        draw.circle(centre, 8, outline=MODE, width=2)
    return square


def _colours(values: np.ndarray) -> np.ndarray:
    """Map values, 0 to 1, to colours [..., 3] uint8, as light as lets black points stand out."""
    values = np.nan_to_num(values, nan=0.5).clip(0, 1)[..., None]
    low, middle, high = (np.array(colour) for colour in (LOW, MIDDLE, HIGH))
    below, above = low + (middle - low) * 2 * values, middle + (high - middle) * (2 * values - 1)
    colours = np.where(values < 0.5, below, above)
    light: np.ndarray = (255 - 0.6 * (255 - colours)).round().astype(np.uint8)
    return light


def _draw_title(draw: ImageDraw.ImageDraw, title: str, note: str, width: int) -> None:
    note_width = text_width(note, SIZE)
    text = shorten(title, SIZE, width - note_width - 24, bold=True)
    draw.text((8, 4), text, TEXT, font_for(text, SIZE, bold=True))
    draw.text((width - 8 - note_width, 4), note, TEXT, font_for(note, SIZE))


def _draw_axes(draw: ImageDraw.ImageDraw, top: int) -> None:
    """Draw the frame of the square with ticks and their numbers."""
    draw.rectangle((LEFT, top, LEFT + SIDE - 1, top + SIDE - 1), outline=FAINT)
    font = font_for("0", SIZE)
    for tick in TICKS:
        text, place = f"{tick:g}", (tick / (2 * REACH) + 0.5) * SIDE
        x, y = LEFT + place, top + SIDE - place
        draw.line((x, top + SIDE, x, top + SIDE + 5), TEXT)
        draw.text((x - text_width(text, SIZE) / 2, top + SIDE + 6), text, TEXT, font)
        draw.line((LEFT - 5, y, LEFT, y), TEXT)
        draw.text((LEFT - 9 - text_width(text, SIZE), y - LINE / 2), text, TEXT, font)


def _draw_scale(canvas: Image.Image, background: Background, top: int) -> None:
    """Draw the colours of the background with their values, to the right of the square."""
    draw, left = ImageDraw.Draw(canvas), LEFT + SIDE + 14
    bar = _colours(np.linspace(1, 0, SIDE - LINE)[:, None].repeat(14, 1))
    canvas.paste(Image.fromarray(bar), (left, top + LINE))
    draw.text((left, top - 3), background.name, TEXT, font_for(background.name, SIZE))
    for share in (0.0, 0.5, 1.0):
        value = background.low + share * (background.high - background.low)
        y = top + SIDE - LINE - share * (SIDE - 2 * LINE)
        draw.text((left + 18, y), f"{value:.3g}", TEXT, font_for("0", SIZE))


def _draw_legend(draw: ImageDraw.ImageDraw, count: int, outside: int, modes: bool, top: int) -> None:
    entries: Sequence[tuple[str, str]] = [("dot", f"{count:,} samples{f', {outside:,} outside' if outside else ''}")]
    entries = [*entries, *([("circle", "true modes")] if modes else [])]
    left = LEFT
    for kind, text in entries:
        if kind == "dot":
            draw.circle((left + 6, top + LINE / 2), 3, fill="black")
        else:
            draw.circle((left + 6, top + LINE / 2), 6, outline=MODE, width=2)
        draw.text((left + 18, top), text, TEXT, font_for(text, SIZE))
        left += 36 + text_width(text, SIZE)

"""Images in a grid, with a title, headings of rows and columns, and captions."""

import itertools
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from oakleaf.figures.text import font_for, line_height, shorten, text_width, vertical, wrap
from oakleaf.image_grid import to_bytes

MIN_WIDTH = 512  # pixels; smaller grids are enlarged by an integer factor, so that no pixel is blurred,
MAX_ENLARGED = 128  # as long as the sides of an image have at most so many pixels
MAX_WIDTH = 2048  # pixels; rows of more than ten images that are wider are broken
UNBROKEN = 10  # images in a row that are never broken
PADDING, MAX_GAP = 2, 8  # pixels between two images: so many, enlarged like the images, but at most so many
MIN_TEXT, MAX_TEXT = 12, 28  # size of the font in pixels; in between it is in proportion to the picture's width
MAX_CHANNELS, MAX_CHANNEL_ROWS = 8, 32  # of images with other channels than grey, colour and opacity
CAPTION_LINES = 3  # below an image, at most
SMALLEST = 10  # size of the font where there is little room
WIDTH_PER_TEXT = 45  # width of the picture divided by the size of its font
TEXT, FAINT, FRAME = "#222222", "#666666", "#d62728"  # colours


@dataclass(frozen=True)
class Panel:
    """A block of rows of a grid, with headings of its own.

    Args:
        count: number of its images; None: all that are left.
        columns: images in a row; None: as many as make the panel about square.
        heading: text above the panel.
        column_names: headings of the columns; if they are fewer than the columns, they are repeated. One heading stands
            above adjacent columns of the same name.
        row_names: headings of the rows; one heading stands beside adjacent rows of the same name.
        group: adjacent images that belong together, such as 3 for input, output and target; a wider gap separates
            groups, and no row is broken inside of one.
        framed: number of an image of the panel that gets a coloured frame, from 0.
        captions: text below each image.
    """

    count: int | None = None
    columns: int | None = None
    heading: str = ""
    column_names: Sequence[str] = ()
    row_names: Sequence[str] = ()
    group: int = 1
    framed: int | None = None
    captions: Sequence[str] = ()


@dataclass(frozen=True)
class Layout:
    """How images are arranged and labelled.

    Args:
        panels: one below the other; together they have all images.
        title: text above the grid.
        note: text in the title's line, on the right, such as the number of images seen.
    """

    panels: Sequence[Panel] = (Panel(),)
    title: str = ""
    note: str = ""


class Block(NamedTuple):
    """Rows of images that are drawn below one line of column headings: a panel, or a part of one that was broken.

    Attributes:
        panel: the panel.
        numbers: for each row the numbers of its images, from 0 over all panels.
        first: column of the panel that the block begins with.
        columns: number of its columns.
        row_names: headings of its rows, "" where there are none.
        begins: whether the block is the first of its panel.
        start: number of the panel's first image.
    """

    panel: Panel
    numbers: list[list[int]]
    first: int
    columns: int
    row_names: list[str]
    begins: bool
    start: int

    def names(self) -> list[str]:
        """Return the heading of each column, "" where there are none."""
        names = self.panel.column_names or ("",)
        return [names[(self.first + column) % len(names)] for column in range(self.columns)]

    def has_gap_after(self, column: int) -> bool:
        """Return whether a wider gap follows a column: between groups, and between headings of several columns."""
        if column + 1 >= self.columns:
            return False
        if self.panel.group > 1:
            return (column + 1) % self.panel.group == 0
        names = self.names()
        spans = any(one and one == other for one, other in itertools.pairwise(names))
        return spans and names[column] != names[column + 1]


class Sizes(NamedTuple):
    """Measures of a picture, in pixels.

    Attributes:
        zoom: factor by which images are enlarged.
        width: of an enlarged image.
        height: of an enlarged image.
        text: size of the font; 0 without captions.
        margin: width of the row headings.
    """

    zoom: int
    width: int
    height: int
    text: int
    margin: int

    @property
    def gap(self) -> int:
        """Space between two images."""
        return min(PADDING * self.zoom, MAX_GAP)

    def left(self, block: Block, column: int) -> int:
        """Return the position of a column's left border."""
        wide = sum(block.has_gap_after(before) for before in range(column))
        return self.margin + self.gap + column * (self.width + self.gap) + wide * 3 * self.gap


def draw_grid(images: Tensor, layout: Layout | None = None, captions: bool = True) -> Image.Image:
    """Draw images in a grid.

    Small images are enlarged by an integer factor, and the text is as large as suits the picture.

    Args:
        images: the images, row by row, [B, C, H, W] in [-1, 1]. With other channels than grey, colour and opacity, each
            image has a row of its own, with a column for each channel.
        layout: panels, headings and title; None: a square without any.
        captions: whether titles and headings are drawn; without them the panels are plain tiles.
    """
    layout = layout or Layout()
    if images.shape[1] not in (1, 3, 4):
        images, layout = _channels_apart(images, layout)
    height, width = images.shape[2:]
    blocks = list(_blocks(len(images), layout.panels, width))
    sizes = _sizes(blocks, layout.title + layout.note, height, width, captions)
    total = max(sizes.left(block, block.columns) for block in blocks)
    if sizes.text:
        total = max(total, min(MIN_WIDTH, text_width(layout.title, sizes.text, bold=True) + sizes.text))
    head = _head(layout, sizes, total)
    canvas = Image.new("RGB", (total, head.height + sum(_block_height(block, sizes) for block in blocks)), "white")
    canvas.paste(head, (0, 0))
    top, pictures = head.height, _pictures(images, sizes.zoom)
    for block in blocks:
        _draw_block(canvas, block, pictures, sizes, top)
        top += _block_height(block, sizes)
    return canvas


def _channels_apart(images: Tensor, layout: Layout) -> tuple[Tensor, Layout]:
    """Return the channels of images as grey images, a row for each image."""
    channels = min(images.shape[1], MAX_CHANNELS)
    of = f" of {images.shape[1]}" if images.shape[1] > channels else ""
    panel = Panel(columns=channels, column_names=[f"channel {number}{of}" for number in range(channels)])
    return images[:MAX_CHANNEL_ROWS, :channels].flatten(0, 1)[:, None], Layout((panel,), layout.title, layout.note)


def _blocks(count: int, panels: Sequence[Panel], width: int) -> Iterator[Block]:
    """Divide the panels into blocks that are not too wide."""
    start = 0
    for panel in panels:
        images = count - start if panel.count is None else min(panel.count, count - start)
        columns = panel.columns or _square(images, panel.group, width)
        rows = [list(range(start + i, start + min(i + columns, images))) for i in range(0, images, columns)]
        names = [panel.row_names[i] if i < len(panel.row_names) else "" for i in range(len(rows))]
        part = _columns_of_block(columns, panel.group, width)
        for first in range(0, columns, part):
            numbers = [row[first : first + part] for row in rows]
            yield Block(panel, numbers, first, min(part, columns - first), names, first == 0, start)
        start += images


def _square(images: int, group: int, width: int) -> int:
    """Return the number of columns that makes a grid about square, and at most MAX_WIDTH wide."""
    if group == 1:
        return max(1, math.ceil(math.sqrt(images)))
    groups = max(1, round(math.sqrt(images / group / group)))
    return group * min(groups, max(1, MAX_WIDTH // (group * (width + PADDING))))


def _columns_of_block(columns: int, group: int, width: int) -> int:
    """Return how many columns of a panel stand side by side."""
    parts = math.ceil(columns * (width + PADDING) / MAX_WIDTH)
    if columns <= UNBROKEN or parts == 1:
        return columns
    return group * math.ceil(columns / parts / group)


def _sizes(blocks: Sequence[Block], title: str, height: int, width: int, captions: bool) -> Sizes:
    widest = max(block.columns * (width + PADDING) + PADDING for block in blocks)
    zoom = min(math.ceil(MIN_WIDTH / widest), max(1, MAX_ENLARGED // max(height, width)))
    plain = Sizes(zoom, zoom * width, zoom * height, 0, 0)
    labels = (
        label
        for block in blocks
        for label in (block.panel.heading, *block.names(), *block.row_names, *block.panel.captions)
    )
    labelled = title or any(labels)
    if not captions or not labelled:
        return plain
    total = max(plain.left(block, block.columns) for block in blocks)
    text = min(MAX_TEXT, max(MIN_TEXT, total // WIDTH_PER_TEXT))
    names = {name for block in blocks for name in block.row_names}
    lines = (line for name in names for line in wrap(name, text, 10 * text))
    margin = max((text_width(line, text) for line in lines), default=0)
    return plain._replace(text=text, margin=margin + text if margin else 0)


def _head(layout: Layout, sizes: Sizes, total: int) -> Image.Image:
    """Draw the title and the note; the note has a line of its own where the title leaves no room for it."""
    size = sizes.text
    if not size or not (layout.title or layout.note):
        return Image.new("RGB", (total, size // 2), "white")
    room = total - size
    note = shorten(layout.note, size, room)
    fits = text_width(layout.title, size, bold=True) + text_width(note, size) + 2 * size <= room
    lines = wrap(layout.title, size, room, most=2, bold=True)
    own_line = bool(note) and not (fits and lines)
    height = (len(lines) + own_line) * line_height(size) + size
    head = Image.new("RGB", (total, height), "white")
    draw = ImageDraw.Draw(head)
    for number, line in enumerate(lines):
        top = size // 2 + number * line_height(size)
        draw.text((size // 2, top), line, TEXT, font_for(line, size, bold=True))
    left = size // 2 if own_line else total - size // 2 - text_width(note, size)
    top = size // 2 + len(lines) * line_height(size) if own_line else size // 2
    draw.text((left, top), note, FAINT, font_for(note, size))
    return head


def _heading_height(block: Block, sizes: Sizes) -> int:
    """Return the height of the heading of a block's panel."""
    return line_height(sizes.text) + sizes.text // 2 if sizes.text and block.panel.heading and block.begins else 0


def _spans(names: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Give each run of equal names that are not empty, with its first index and the one after its last."""
    for name, run in itertools.groupby(range(len(names)), key=lambda index: names[index]):
        indices = list(run)
        if name:
            yield name, indices[0], indices[-1] + 1


def _column_text(block: Block, sizes: Sizes) -> tuple[int, bool]:
    """Return the size of the column headings' font, and whether they run upwards because they are too long."""
    rooms = [
        (name, sizes.left(block, end - 1) + sizes.width + sizes.gap - sizes.left(block, start) - 4)
        for name, start, end in _spans(block.names())
    ]
    for share in (1.0, 0.85, 0.7):
        size = max(SMALLEST, round(share * sizes.text))
        if all(text_width(name, size) <= room for name, room in rooms):
            return size, False
    return min(sizes.text, max(SMALLEST, sizes.width)), True


def _column_height(block: Block, sizes: Sizes) -> int:
    """Return the height of a block's column headings."""
    names = [name for name in block.names() if name]
    if not sizes.text or not names:
        return 0
    size, upright = _column_text(block, sizes)
    if not upright:
        return line_height(size)
    return min(10 * size, max(text_width(name, size) for name in names)) + size // 2


def _caption_size(sizes: Sizes) -> int:
    return max(SMALLEST, round(0.7 * sizes.text))


def _caption_lines(block: Block, sizes: Sizes) -> dict[int, list[str]]:
    """Return the lines of the text below each image of a block, by the image's number."""
    size = _caption_size(sizes)
    if not sizes.text or not block.panel.captions:
        return {}
    known = dict(enumerate(block.panel.captions, block.start))
    return {n: wrap(known[n], size, sizes.width, CAPTION_LINES) for row in block.numbers for n in row if n in known}


def _pitch(block: Block, sizes: Sizes) -> int:
    """Return the height of a row, with its captions and the space to the next one."""
    lines = max((len(lines) for lines in _caption_lines(block, sizes).values()), default=0)
    return sizes.height + sizes.gap + (lines * line_height(_caption_size(sizes)) + 4 if lines else 0)


def _block_height(block: Block, sizes: Sizes) -> int:
    rows = len(block.numbers) * _pitch(block, sizes) + sizes.gap
    return rows + _heading_height(block, sizes) + _column_height(block, sizes) + sizes.text // 2


def _pictures(images: Tensor, zoom: int) -> list[Image.Image]:
    """Convert images to enlarged pictures in colour."""
    pixels = to_bytes(images).permute(0, 2, 3, 1).numpy().repeat(zoom, 1).repeat(zoom, 2)
    pictures = [Image.fromarray(np.ascontiguousarray(one.squeeze(2) if one.shape[2] == 1 else one)) for one in pixels]
    return [picture.convert("RGB") if picture.mode == "L" else picture for picture in pictures]


def _draw_block(canvas: Image.Image, block: Block, pictures: Sequence[Image.Image], sizes: Sizes, top: int) -> None:
    """Draw a block with its headings; `top` is the position of its upper border."""
    draw, size = ImageDraw.Draw(canvas), sizes.text
    if heading_height := _heading_height(block, sizes):
        heading = shorten(block.panel.heading, size, canvas.width - size)
        draw.text((size // 2, top), heading, TEXT, font_for(heading, size))
    top += heading_height
    if column_height := _column_height(block, sizes):
        _draw_column_names(canvas, block, sizes, top, column_height)
    top += column_height + sizes.gap
    if sizes.margin:
        _draw_row_names(draw, block, sizes, top)
    captions, pitch = _caption_lines(block, sizes), _pitch(block, sizes)
    for row, numbers in enumerate(block.numbers):
        for column, number in enumerate(numbers):
            place, picture = (sizes.left(block, column), top + row * pitch), pictures[number]
            canvas.paste(picture, place, picture if picture.mode == "RGBA" else None)
            if size and block.panel.framed == number - block.start:
                _frame(draw, place, sizes)
            _draw_caption(draw, captions.get(number, []), place, sizes)


def _draw_caption(draw: ImageDraw.ImageDraw, lines: Sequence[str], place: tuple[int, int], sizes: Sizes) -> None:
    size = _caption_size(sizes)
    for number, line in enumerate(lines):
        left = place[0] + (sizes.width - text_width(line, size)) // 2
        draw.text((left, place[1] + sizes.height + 2 + number * line_height(size)), line, TEXT, font_for(line, size))


def _frame(draw: ImageDraw.ImageDraw, place: tuple[int, int], sizes: Sizes) -> None:
    width = max(2, sizes.gap // 2)
    box = (place[0] - width, place[1] - width, place[0] + sizes.width + width - 1, place[1] + sizes.height + width - 1)
    draw.rectangle(box, outline=FRAME, width=width)


def _draw_column_names(canvas: Image.Image, block: Block, sizes: Sizes, top: int, height: int) -> None:
    draw, (size, upright) = ImageDraw.Draw(canvas), _column_text(block, sizes)
    for name, start, end in _spans(block.names()):
        left = sizes.left(block, start)
        right = sizes.left(block, end - 1) + sizes.width
        if upright:
            drawn = vertical(name, size, height - size // 2, TEXT)
            canvas.paste(drawn, ((left + right - drawn.width) // 2, top + height - drawn.height))
        else:
            text = shorten(name, size, right - left + sizes.gap)
            place = (left + right - text_width(text, size)) // 2, top
            draw.text(place, text, TEXT, font_for(text, size))


def _draw_row_names(draw: ImageDraw.ImageDraw, block: Block, sizes: Sizes, top: int) -> None:
    size, pitch = sizes.text, _pitch(block, sizes)
    for name, start, end in _spans(block.row_names):
        room = (end - start - 1) * pitch + sizes.height
        lines = wrap(name, size, sizes.margin - size, most=max(1, room // line_height(size)))
        height = len(lines) * line_height(size)
        for number, line in enumerate(lines):
            left = sizes.margin - size // 2 - text_width(line, size)
            y = top + start * pitch + (room - height) // 2 + number * line_height(size)
            draw.text((left, y), line, TEXT, font_for(line, size))


def captioned_grid(pixels: Tensor, captions: Sequence[Sequence[str]], columns: int = 2) -> Image.Image:
    """Arrange images in a grid, with a caption to the right of each.

    Args:
        pixels: the images, uint8 [N, 3, H, W].
        captions: the lines of each image's caption; long lines are wrapped.
        columns: images in a row.
    """
    size, height = 13, 96
    width, rows = height + 400, math.ceil(len(pixels) / columns)
    grid = Image.new("RGB", (columns * width, rows * (height + 8)), "white")
    draw = ImageDraw.Draw(grid)
    for i, (image, lines) in enumerate(zip(pixels, captions)):
        x, y = i % columns * width, i // columns * (height + 8) + 4
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        grid.paste(picture.resize((height, height), Image.Resampling.BICUBIC), (x, y))
        wrapped = [part for line in lines for part in textwrap.wrap(line, 56)]
        for number, line in enumerate(wrapped[:6]):
            text = shorten(line, size, width - height - 12)
            draw.text((x + height + 8, y + number * 16), text, TEXT, font_for(text, size))
    return grid

"""A data set: images by number."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from oakleaf.config.types import PositiveInt
from oakleaf.data.sources import Source


class Shapes(Source):
    """Grey discs and squares of random size on black; the shape is the label.

    Args:
        root: `data.root`, a folder; nothing is read from it here.
        count: number of images.
    """

    classes = ("disc", "square")

    def __init__(self, root: Path, count: PositiveInt = 512) -> None:
        self.sizes = np.random.default_rng(0).integers(3, 8, count)
        self.labels = {"label": np.arange(count, dtype=np.int64) % 2}

    def __len__(self) -> int:
        return len(self.sizes)

    def read(self, index: int) -> Image.Image:
        """Return image number `index`, of any size and mode; it is cropped and resized afterwards."""
        picture, radius = Image.new("L", (16, 16)), int(self.sizes[index])
        draw = ImageDraw.Draw(picture)
        shape = draw.ellipse if self.labels["label"][index] == 0 else draw.rectangle
        shape((8 - radius, 8 - radius, 7 + radius, 7 + radius), fill=200)
        return picture

    def name(self, index: int) -> str:
        """Return what error messages call the image."""
        return f"shape {index}"

    @property
    def digest(self) -> str:
        """Return a text that changes whenever an image does: the key under which the decoded images are cached."""
        return f"shapes-1-{len(self)}"

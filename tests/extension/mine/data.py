"""A data set: any `torch.utils.data.Dataset` will do."""

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.utils.data import Dataset

from oakleaf.config.types import PositiveInt


class Shapes(Dataset[tuple[Tensor, int]]):
    """Discs and squares of random size and colour; the shape is the label, and the fourth channel is the mask.

    Args:
        count: number of images.
    """

    classes = ("disc", "square")
    digest = "shapes-2"  # a text that changes whenever an image does; without it, the images are hashed

    def __init__(self, count: PositiveInt = 512) -> None:
        random = np.random.default_rng(0)
        self.sizes, self.colours = random.integers(3, 8, count), random.integers(80, 256, (count, 3))

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return an image [4, 16, 16] of bytes and its label."""
        label, radius = index % 2, int(self.sizes[index])
        picture = Image.new("RGBA", (16, 16))
        draw = ImageDraw.Draw(picture)
        shape = draw.rectangle if label else draw.ellipse
        shape((8 - radius, 8 - radius, 7 + radius, 7 + radius), fill=(*map(int, self.colours[index]), 255))
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1), label

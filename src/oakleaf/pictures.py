"""Tensors as pictures: sheets and films."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

LEAST_WIDTH = 512  # px; smaller sheets are enlarged by a whole number


def to_bytes(images: Tensor) -> Tensor:
    """[B, C, H, W] in [-1, 1] -> uint8 on the CPU, each value to its nearest."""
    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).cpu()


def sheet(images: Tensor, columns: int | None = None) -> Image.Image:
    """Images [B, C, H, W] in [-1, 1] side by side, as square as it goes unless `columns` says otherwise."""
    columns = columns or math.ceil(math.sqrt(len(images)))
    grid = make_grid(to_bytes(images), nrow=columns, padding=2, pad_value=255)
    picture = Image.fromarray(grid.permute(1, 2, 0).numpy())
    zoom = math.ceil(LEAST_WIDTH / picture.width)
    return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)


def film(frames: Sequence[Path], path: Path, seconds: float = 6.0) -> None:
    """An animated GIF of pictures, its last one held for a second."""
    pictures = [Image.open(frame).convert("P", palette=Image.Palette.ADAPTIVE) for frame in frames]
    each = max(20, int(1000 * seconds / len(pictures)))  # ms; browsers slow down what is shorter
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=[each] * (len(pictures) - 1) + [1000], loop=0
    )

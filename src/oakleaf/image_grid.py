"""Conversion between images as tensors in [-1, 1] and as bytes; what draws them is in `oakleaf.figures`."""

import torch
from torch import Tensor


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

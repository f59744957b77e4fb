"""Affine maps of the plane and of the colours, as matrices, one for each image."""

import math

import torch
from torch import Tensor

LUMA = 1 / math.sqrt(3)  # each component of the grey axis' unit vector


def matrix(rows: list[list[Tensor | float]]) -> Tensor:
    """Return a matrix for each image from its entries.

    Args:
        rows: the entries; a tensor [B], or a number that is the same for all images. At least one is a tensor.

    Returns:
        [B, rows, columns].
    """
    first = next(entry for row in rows for entry in row if isinstance(entry, Tensor))
    entries = [entry if isinstance(entry, Tensor) else first.new_full((), entry) for row in rows for entry in row]
    flat = torch.stack([entry.expand_as(first) for entry in entries], 1)
    return flat.unflatten(1, (len(rows), len(rows[0])))


def scaling(x: Tensor, y: Tensor) -> Tensor:
    """Return the maps of the plane that scale x and y, [B, 3, 3]."""
    return matrix([[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, 1.0]])


def rotation(cosine: Tensor, sine: Tensor) -> Tensor:
    """Return the rotations of the plane by angles with these cosines and sines [B], as [B, 3, 3]."""
    return matrix([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def translation(x: Tensor, y: Tensor) -> Tensor:
    """Return the translations of the plane, [B, 3, 3]."""
    return matrix([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def blit_inverse(flip: Tensor, turns: Tensor, shift: Tensor) -> Tensor:
    """Return the inverse map of a flip, then quarter turns, then a shift by whole pixels.

    x points to the right, y downwards, and the origin is the image's centre.

    Args:
        flip: [B], 1 for images whose left and right are exchanged, else 0.
        turns: [B], number of quarter turns counter-clockwise: 0, 1, 2 or 3.
        shift: [B, 2], whole pixels to the right and downwards.

    Returns:
        [B, 3, 3], from a place in the result to its place in the image.
    """
    zeros, ones = torch.zeros_like(turns), torch.ones_like(turns)  # cos(pi / 2) would not be exact
    cosine = torch.where(turns == 0, ones, torch.where(turns == 2, -ones, zeros))
    sine = torch.where(turns == 1, ones, torch.where(turns == 3, -ones, zeros))
    back = translation(-shift[:, 0], -shift[:, 1])
    return scaling(1 - 2 * flip, ones) @ rotation(cosine, sine) @ back


def geometry_inverse(scale: Tensor, before: Tensor, stretch: Tensor, after: Tensor, shift: Tensor) -> Tensor:
    """Return the inverse map of a scaling, a rotation, a stretching, a second rotation, then a shift.

    x points to the right, y downwards, and the origin is the image's centre.

    Args:
        scale: [B], factor of both directions.
        before, after: [B], angles of the rotations before and after the stretching, in radians, clockwise.
        stretch: [B], factor of x; y is divided by it.
        shift: [B, 2], in pixels, to the right and downwards.

    Returns:
        [B, 3, 3], from a place in the result to its place in the image.
    """
    inverse = scaling(1 / scale, 1 / scale) @ rotation(before.cos(), -before.sin())
    inverse = inverse @ scaling(1 / stretch, stretch) @ rotation(after.cos(), -after.sin())
    return inverse @ translation(-shift[:, 0], -shift[:, 1])


def colour_matrix(brightness: Tensor, contrast: Tensor, invert: Tensor, hue: Tensor, saturation: Tensor) -> Tensor:
    """Return the map of the colours (red, green, blue, 1): brightness first, saturation last.

    Args:
        brightness: [B], added to all channels.
        contrast: [B], factor of all channels.
        invert: [B], 1 for images whose luma is inverted, else 0.
        hue: [B], angle of the rotation about the grey axis, in radians.
        saturation: [B], factor of the distance from the grey axis.

    Returns:
        [B, 3, 4].
    """
    identity = torch.eye(3, device=hue.device, dtype=hue.dtype)
    grey = torch.full_like(identity, LUMA * LUMA)  # the projection on the grey axis
    # the cross product with the grey axis
    cross = LUMA * (identity.roll(-1, 1) - identity.roll(1, 1))
    contrast, invert, hue, saturation = (x[:, None, None] for x in (contrast, invert, hue, saturation))
    luma = identity - 2 * grey * invert
    turn = hue.cos() * identity + (1 - hue.cos()) * grey + hue.sin() * cross
    linear = (grey + (identity - grey) * saturation) @ turn @ (luma * contrast)
    offset = linear.sum(2, keepdim=True) * brightness[:, None, None]
    return torch.cat([linear, offset], 2)

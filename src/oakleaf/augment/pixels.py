"""Reading images at other pixels: at whole pixels exactly, and between pixels through a wavelet filter.

Everything can be differentiated twice, as a gradient penalty needs, and be traced by `torch.compile`. The shapes do not
depend on the values that were drawn. Images are reflected at their borders about the middle of the outermost pixel, as
`torch.nn.functional.pad` does with `reflect`, but without a limit to how far.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from oakleaf import compat

SYM6 = (  # the low-pass filter of Daubechies' least asymmetric wavelet with 6 vanishing moments; orthogonal, sum sqrt 2
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
FIRST = 5  # the tap that stands on a pixel
DELAY = sum(i * tap for i, tap in enumerate(SYM6)) / sum(SYM6) - FIRST  # of slow waves, in half pixels: 0.098
SECOND_DERIVATIVES = compat.grid_sample_has_second_derivatives()
MARGIN = 10  # half pixels beyond each border that are computed and not reflected; those that `halved` reads, and more


def reflected(index: Tensor, size: int) -> Tensor:
    """Reflect positions at the first and last pixel until they are inside: -1 becomes 1, size becomes size - 2.

    Args:
        index: whole or fractional positions, of any shape.
        size: number of pixels.

    Returns:
        Positions in [0, size - 1].
    """
    period = max(2 * (size - 1), 1)
    within = index.remainder(period)
    return torch.minimum(within, period - within) if size > 1 else torch.zeros_like(index)


def taken(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Read each image at whole pixels.

    Args:
        images: [B, C, H, W].
        rows, columns: int64, [B, H', W'] each, within the image.

    Returns:
        [B, C, H', W'].
    """
    index = (rows * images.shape[3] + columns).flatten(1)[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, index).unflatten(2, rows.shape[1:])


def bilinear(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Read each image between pixels, linearly in both directions.

    Args:
        images: [B, C, H, W], both sides at least 2.
        rows, columns: positions [B, H', W'], from 0 to H - 1 and W - 1.

    Returns:
        [B, C, H', W'].
    """
    if not SECOND_DERIVATIVES:
        return bilinear_gathered(images, rows, columns)
    height, width = images.shape[2:]
    grid = torch.stack([columns * (2 / (width - 1)), rows * (2 / (height - 1))], 3) - 1
    return grid_sample(images, grid, padding_mode="border", align_corners=True)


def bilinear_gathered(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the same as `bilinear`, made of operations that torch has always been able to differentiate twice."""
    height, width = images.shape[2:]
    top, left = rows.floor().clamp(0, height - 2), columns.floor().clamp(0, width - 2)
    down, right = (rows - top)[:, None], (columns - left)[:, None]
    y, x = top.long(), left.long()
    upper = torch.lerp(taken(images, y, x), taken(images, y, x + 1), right)
    lower = torch.lerp(taken(images, y + 1, x), taken(images, y + 1, x + 1), right)
    return torch.lerp(upper, lower, down)


def moved(images: Tensor, inverse: Tensor) -> Tensor:
    """Move images by whole pixels: flips, quarter turns and shifts. The values of the pixels stay exactly the same.

    Args:
        images: [B, C, H, W].
        inverse: [B, 3, 3], from places (x, y, 1) in the result to places in the image, relative to the centre, in
            pixels.

    Returns:
        [B, C, H, W].
    """
    height, width = images.shape[2:]
    rows, columns = torch.arange(height, device=inverse.device), torch.arange(width, device=inverse.device)
    y, x = _sources(inverse, rows.to(inverse.dtype), columns.to(inverse.dtype), height, width)
    return taken(images, reflected(y.round().long(), height), reflected(x.round().long(), width))


def resampled(images: Tensor, inverse: Tensor, taps: Tensor) -> Tensor:
    """Move images by a general affine map: doubled by a wavelet filter, read bilinearly at double size, and halved.

    At the identity the result is the image up to rounding, because the filter is orthogonal. The paper pads the image
    before; here reading continues with the reflected image, so that nothing is cut off and no shape depends on the map.

    Args:
        images: [B, C, H, W].
        inverse: as for `moved`.
        taps: `SYM6` as a tensor of the images' type and device.

    Returns:
        [B, C, H, W].

    Reference: Karras 2020, arXiv:2006.06676, appendix B, "Geometric transformations".
    """
    height, width = images.shape[2:]
    doubled = doubling(height, taps) @ images @ doubling(width, taps).T
    y, x = _sources(inverse, _half_pixels(height, taps), _half_pixels(width, taps), height, width)
    read = bilinear(doubled, _places(y, height), _places(x, width))
    return halving(height, taps) @ read @ halving(width, taps).T


def convolution(size: int, filters: Tensor) -> Tensor:
    """Return matrices that filter a row of pixels, reflected at both ends.

    Args:
        size: number of pixels.
        filters: [..., L] with odd L; the middle tap stands on the pixel that is computed.

    Returns:
        [..., size, size].
    """
    length = filters.shape[-1]
    targets, sources = torch.arange(size, device=filters.device), torch.arange(size, device=filters.device)
    matrix = filters.new_zeros(*filters.shape[:-1], size, size)
    for tap in range(length):
        read = reflected(targets + length // 2 - tap, size)  # a convolution, which reads backwards
        matrix = matrix + torch.where(read[:, None] == sources, filters[..., tap, None, None], 0.0)
    return matrix


def doubling(size: int, taps: Tensor) -> Tensor:
    """Return the matrix that doubles a row of pixels, reflected at both ends; the mean brightness stays.

    Args:
        size: number of pixels.
        taps: `SYM6` as a tensor.

    Returns:
        [2 size - 1 + 2 MARGIN, size]; row k is the sample at (k - MARGIN - DELAY) / 2, in pixels.
    """
    samples = torch.arange(-MARGIN, 2 * size - 1 + MARGIN, device=taps.device)
    sources = torch.arange(size, device=taps.device)
    last = (samples + FIRST).div(2, rounding_mode="floor")  # the last pixel that a sample depends on
    matrix = taps.new_zeros(len(samples), size)
    for i in range(len(taps) // 2):
        pixel = last - i
        tap = taps[samples - 2 * pixel + FIRST] * math.sqrt(2)
        matrix = matrix + torch.where(reflected(pixel, size)[:, None] == sources, tap[:, None], 0.0)
    return matrix


def halving(size: int, taps: Tensor) -> Tensor:
    """Return the matrix that halves a row of samples by the filter run backwards, the inverse of `doubling`.

    Args:
        size: number of pixels of the result.
        taps: `SYM6` as a tensor.

    Returns:
        [size, 2 size + 10]; column k is the sample at (k - FIRST - DELAY) / 2, in pixels.
    """
    samples = torch.arange(-FIRST, 2 * size + FIRST, device=taps.device)
    tap = samples - 2 * torch.arange(size, device=taps.device)[:, None] + FIRST
    return torch.where((tap >= 0) & (tap < len(taps)), taps[tap.clamp(0, len(taps) - 1)] / math.sqrt(2), 0.0)


def _sources(inverse: Tensor, rows: Tensor, columns: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the rows and columns of the image, [B, H', W'] each, at which the pixels of the result are read."""
    y, x = rows - (height - 1) / 2, columns - (width - 1) / 2
    a = inverse[:, :, :, None, None]
    source_x = a[:, 0, 0] * x + a[:, 0, 1] * y[:, None] + a[:, 0, 2]
    source_y = a[:, 1, 0] * x + a[:, 1, 1] * y[:, None] + a[:, 1, 2]
    return source_y + (height - 1) / 2, source_x + (width - 1) / 2


def _half_pixels(size: int, taps: Tensor) -> Tensor:
    """Return where the samples are that `halving` reads, in pixels."""
    return (torch.arange(-FIRST, 2 * size + FIRST, device=taps.device) - DELAY).to(taps.dtype) / 2


def _places(positions: Tensor, size: int) -> Tensor:
    """Return the places in the doubled image of positions in the image; those far outside are reflected first."""
    outside = (positions < -(MARGIN - 2) / 2) | (positions > size - 1 + (MARGIN - 2) / 2)
    return 2 * torch.where(outside, reflected(positions, size), positions) + DELAY + MARGIN

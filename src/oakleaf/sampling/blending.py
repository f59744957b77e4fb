"""Blending one picture into another by their gradients: exact solvers of Poisson and Gaussian-Poisson equations.

Pictures are tensors [C, H, W] in [0, 1]; masks are [H, W] in [0, 1], 1 where the source is. Gradients are differences
of neighbouring pixels, and no gradient leaves the picture (Neumann's condition).

Reference: Wu 2017 (GP-GAN), arXiv:1703.07195, section 3.2; Perez 2003, doi:10.1145/882262.882269.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

TOLERANCE = 1e-7  # of the conjugate gradients, relative to the right side


class Gradients(NamedTuple):
    """Differences of neighbouring pixels.

    Attributes:
        down: [C, H - 1, W].
        right: [C, H, W - 1].
    """

    down: Tensor
    right: Tensor


def gradients(picture: Tensor) -> Gradients:
    """Return the differences of neighbouring pixels of a picture [C, H, W]."""
    return Gradients(picture.diff(dim=-2), picture.diff(dim=-1))


def adjoint(field: Gradients) -> Tensor:
    """Return the adjoint of `gradients`, minus the divergence of a field, [C, H, W]."""
    down = pad(field.down, (0, 0, 1, 0)) - pad(field.down, (0, 0, 0, 1))
    return down + pad(field.right, (1, 0)) - pad(field.right, (0, 1))


def dct(x: Tensor, dim: int) -> Tensor:
    """Return the discrete cosine transform of type II along a dimension: 2 sum x_n cos(pi k (n + 1/2) / N).

    It is computed by one Fourier transform of N values, for any N.

    Args:
        x: real.
        dim: the dimension.

    Reference: Makhoul 1980, doi:10.1109/TASSP.1980.1163351.
    """
    x = x.movedim(dim, -1)
    count = x.shape[-1]
    reordered = torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], -1)
    turned = torch.fft.fft(reordered) * _turns(count, x)
    return (2 * turned.real).movedim(-1, dim)


def idct(coefficients: Tensor, dim: int) -> Tensor:
    """Return the inverse of `dct` along a dimension."""
    y = coefficients.movedim(dim, -1) / 2
    count = y.shape[-1]
    mirrored = torch.cat([torch.zeros_like(y[..., :1]), y[..., 1:].flip(-1)], -1)
    reordered = torch.fft.ifft(torch.complex(y, -mirrored) * _turns(count, y).conj()).real
    x = torch.empty_like(y)
    half = (count + 1) // 2
    x[..., ::2], x[..., 1::2] = reordered[..., :half], reordered[..., half:].flip(-1)
    return x.movedim(-1, dim)


def _turns(count: int, like: Tensor) -> Tensor:
    angles = -math.pi * torch.arange(count, dtype=like.dtype, device=like.device) / (2 * count)
    return torch.polar(torch.ones_like(angles), angles)


def _frequencies(count: int, like: Tensor) -> Tensor:
    """Return cos(pi k / N) [N]."""
    return torch.cos(math.pi * torch.arange(count, dtype=like.dtype, device=like.device) / count)


def laplacian_spectrum(height: int, width: int, like: Tensor) -> Tensor:
    """Return the eigenvalues of the adjoint of `gradients` times `gradients`, [height, width], for the cosines."""
    return 4 - 2 * _frequencies(height, like)[:, None] - 2 * _frequencies(width, like)


def gaussian_weights(sigma: float) -> tuple[float, float]:
    """Return the weights of a pixel and of each neighbour in a Gaussian of three pixels; together they make 1."""
    side = math.exp(-0.5 / sigma**2)
    return 1 / (1 + 2 * side), side / (1 + 2 * side)


def gaussian_spectrum(height: int, width: int, sigma: float, like: Tensor) -> Tensor:
    """Return the eigenvalues of `gaussian_blur`, [height, width], for the cosines."""
    centre, side = gaussian_weights(sigma)
    rows, columns = (centre + 2 * side * _frequencies(count, like) for count in (height, width))
    return rows[:, None] * columns


def gaussian_blur(picture: Tensor, sigma: float) -> Tensor:
    """Blur a picture [C, H, W] by a Gaussian of 3 x 3 pixels whose weights make 1; the border is reflected."""
    centre, side = gaussian_weights(sigma)
    kernel = picture.new_tensor([side, centre, side])
    extended = pad(picture[:, None], (1, 1, 1, 1), "replicate")
    return conv2d(extended, torch.outer(kernel, kernel)[None, None])[:, 0]


def gaussian_poisson(field: Gradients, colours: Tensor, beta: float, sigma: float) -> Tensor:
    """Return the picture y that minimises |grad y - field|^2 + beta |G y - colours|^2, G being a Gaussian of 3 x 3 px.

    Its normal equations, (L + beta G'G) y = grad' field + beta G' colours, are diagonal for cosines, so the solution
    is exact. The authors' code omits one G on each side, and the weights of its Gaussian make 0.99894 and not 1, which
    makes pictures 0.1 % brighter at each level.

    Args:
        field: the gradients that y should have.
        colours: [C, H, W], the picture that y should be at a low resolution.
        beta: weight of the colours; 0: they decide about the mean of each channel alone.
        sigma: of the Gaussian, in pixels.

    Returns:
        [C, H, W].

    Reference: Wu 2017, arXiv:1703.07195, eq. (4) to (7).
    """
    precise, field = colours.double(), Gradients(*(part.double() for part in field))
    height, width = precise.shape[1:]
    gaussian = gaussian_spectrum(height, width, sigma, precise)
    spectrum = laplacian_spectrum(height, width, precise) + beta * gaussian.square()
    coefficients = dct(dct(adjoint(field), 1), 2) + beta * gaussian * dct(dct(precise, 1), 2)
    if not beta:
        spectrum[0, 0] = 1.0  # gradients do not say what the mean is
        coefficients[:, 0, 0] = dct(dct(precise, 1), 2)[:, 0, 0]
    return idct(idct(coefficients / spectrum, 1), 2).to(colours.dtype)


def joined(source: Gradients, target: Gradients, mask: Tensor) -> Gradients:
    """Return the gradients of the source inside the mask and of the target outside.

    Across the mask's border they are the mean of both, as in the authors' code.

    Args:
        source, target: gradients of both pictures.
        mask: [H, W] in [0, 1].
    """
    down, right = (mask[1:] + mask[:-1]) / 2, (mask[:, 1:] + mask[:, :-1]) / 2
    return Gradients(torch.lerp(target.down, source.down, down), torch.lerp(target.right, source.right, right))


def larger(one: Gradients, other: Gradients) -> Gradients:
    """Return, at each place, that of two gradients which is larger in absolute value (Perez 2003, eq. (12))."""
    pairs = zip(one, other)
    return Gradients(*(torch.where(a.abs() > b.abs(), a, b) for a, b in pairs))


def seamless(field: Gradients, target: Tensor, inside: Tensor) -> Tensor:
    """Return the target with the pixels inside replaced so that their gradients are as near to a field as possible.

    Pixels outside are not changed, and are the border values of the Poisson equation, which conjugate gradients solve.

    Args:
        field: the gradients, also across the border.
        target: [C, H, W].
        inside: [H, W] bool; not all pixels.

    Returns:
        [C, H, W].

    Reference: Perez 2003, eq. (2) and (3), discrete eq. (7).
    """
    free, fixed = inside.double(), target.double() * ~inside
    touched = Gradients(
        *(part * (edge > 0) for part, edge in zip((p.double() for p in field), _touching(inside, target)))
    )

    def apply(x: Tensor) -> Tensor:
        return adjoint(gradients(x)) * free

    right = (adjoint(touched) - adjoint(gradients(fixed))) * free
    return torch.where(inside, conjugate_gradients(apply, right, target.double() * free).to(target.dtype), target)


def _touching(inside: Tensor, like: Tensor) -> Gradients:
    """Return which differences have a pixel of the inside at one end, as 1 and 0."""
    inside = inside.to(like.dtype)[None]
    return Gradients(torch.maximum(inside[:, 1:], inside[:, :-1]), torch.maximum(inside[:, :, 1:], inside[:, :, :-1]))


def conjugate_gradients(apply: Callable[[Tensor], Tensor], right: Tensor, start: Tensor) -> Tensor:
    """Solve A x = right for each channel by conjugate gradients.

    Args:
        apply: A, symmetric and positive.
        right: [C, H, W].
        start: first x.

    Returns:
        x, with a residual of at most 1e-7 of the right side's norm.
    """
    x, residual = start, right - apply(start)
    direction, norm = residual, residual.square().sum((1, 2), keepdim=True)
    enough = TOLERANCE**2 * right.square().sum((1, 2), keepdim=True) + 1e-20
    for _ in range(right[0].numel()):  # exact after as many steps as there are unknowns
        if bool((norm <= enough).all()):
            break
        image = apply(direction)
        step = norm / (direction * image).sum((1, 2), keepdim=True).clamp(min=1e-300)
        x, residual = x + step * direction, residual - step * image
        previous, norm = norm, residual.square().sum((1, 2), keepdim=True)
        direction = residual + norm / previous.clamp(min=1e-300) * direction
    return x


def filled(target: Tensor, inside: Tensor) -> Tensor:
    """Return the target with the smoothest surface over the pixels inside, without gradients of its own there."""
    return seamless(Gradients(*(torch.zeros_like(part) for part in gradients(target))), target, inside)


def feathered(mask: Tensor, radius: float) -> Tensor:
    """Blur a mask [H, W] by a Gaussian of a standard deviation in pixels, so that it changes gradually."""
    if not radius:
        return mask
    reach = max(1, math.ceil(3 * radius))
    places = torch.arange(-reach, reach + 1, dtype=mask.dtype, device=mask.device)
    kernel = torch.exp(-0.5 * (places / radius).square())
    kernel = kernel / kernel.sum()
    rows = conv2d(pad(mask[None, None], (0, 0, reach, reach), "replicate"), kernel[None, None, :, None])
    return conv2d(pad(rows, (reach, reach, 0, 0), "replicate"), kernel[None, None, None])[0, 0]


def level_sizes(height: int, width: int, base: int) -> list[tuple[int, int]]:
    """Return the sizes of a pyramid from coarse to fine: halves, rounded up, until the longer side is at most `base`.

    Args:
        height, width: of the picture.
        base: pixels.
    """
    sizes = [(height, width)]
    while max(sizes[-1]) > base:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes[::-1]


def resized(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a picture [C, H, W] in [0, 1]: antialiased where it shrinks, bicubic where it grows."""
    if picture.shape[1:] == size:
        return picture
    grows = size[0] > picture.shape[1]
    how = {"mode": "bicubic"} if grows else {"mode": "bilinear", "antialias": True}
    return interpolate(picture[None], list(size), **how)[0].clamp(0, 1)  # type: ignore[arg-type]


def gaussian_poisson_pyramid(
    source: Tensor,
    target: Tensor,
    mask: Tensor,
    coarsest: Callable[[Tensor, Tensor, Tensor], Tensor],
    beta: float,
    sigma: float,
    base: int,
) -> Tensor:
    """Blend from coarse to fine: each level's solution, enlarged, gives the colours of the next level.

    Args:
        source, target: [C, H, W] in [0, 1].
        mask: [H, W] in [0, 1].
        coarsest: returns the colours [C, h, w] of the coarsest level from its source, target and mask.
        beta, sigma: as for `gaussian_poisson`.
        base: the longer side of the coarsest level, at most.

    Returns:
        [C, H, W] in [0, 1].

    Reference: Wu 2017, arXiv:1703.07195, section 3.3.
    """
    colours: Tensor | None = None
    for size in level_sizes(target.shape[1], target.shape[2], base):
        small = [resized(picture, size) for picture in (source, target, mask[None])]
        level_mask = small[2][0]
        given = coarsest(small[0], small[1], level_mask) if colours is None else resized(colours, size)
        field = joined(gradients(small[0]), gradients(small[1]), level_mask)
        colours = gaussian_poisson(field, given, beta, sigma).clamp(0, 1)
    assert colours is not None
    return colours

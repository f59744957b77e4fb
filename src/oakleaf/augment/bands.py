"""Image-space filtering: the frequency bands of an image are amplified at random."""

import numpy as np
import torch
from torch import Tensor

SYM2 = (-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025)
POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)  # expected power of the bands of a natural image, 1/f; the lowest first


def band_filters() -> Tensor:
    """Return the filters of four bands, [4, 43]; the first is the lowest band. Their sum is the identity.

    The bands are those of the symmetric wavelet sym2, an octave each: [0, pi/8], [pi/8, pi/4], [pi/4, pi/2] and
    [pi/2, pi]. A band's filter is the product of the low-pass filters below it and its own high-pass filter, each run
    forwards and backwards, so that it shifts nothing.

    Reference: Karras 2020, arXiv:2006.06676, appendix B, "Image-space filtering", figure 11.
    """
    low = np.array(SYM2)
    high = low * (-1.0) ** np.arange(len(low))
    low, high = (np.convolve(taps, taps[::-1]) / 2 for taps in (low, high))  # zero phase; their sum is the identity
    bank = np.ones((1, 1))  # of the bands from the lowest; each round splits the lowest one of the scale above
    for _ in range(len(POWER) - 1):
        spread = np.zeros((len(bank), 2 * bank.shape[1] - 1))
        spread[:, ::2] = bank
        bank = np.stack([np.convolve(row, low) for row in spread])
        own = np.zeros((1, bank.shape[1]))
        middle = bank.shape[1] // 2
        own[0, middle - len(high) // 2 : middle + len(high) // 2 + 1] = high
        bank = np.concatenate([bank, own])
    return torch.from_numpy(bank).float()


def band_gains(drawn: Tensor) -> Tensor:
    """Return the gain of each band, normalised so that the expected power of the image stays the same.

    Args:
        drawn: [B, 4], the amplification drawn for each band; 1 for bands that are not amplified.

    Returns:
        [B, 4]. The bands are amplified one after the other, each with its own normalisation.
    """
    gains = torch.ones_like(drawn)
    for i in range(len(POWER)):
        amplified = torch.ones_like(drawn)
        amplified[:, i] = drawn[:, i]
        power = sum(share * amplified[:, j].square() for j, share in enumerate(POWER))
        gains = gains * amplified / torch.as_tensor(power).sqrt()[:, None]
    return gains

"""Which real images the real-data baseline holds out, and which ones an extractor may be trained on.

A fixed random third of the real images is held out: no extractor is trained on it, and samples are not compared with
it. So for an extractor the held-out images are as new as samples are, and take their place in the baseline.
"""

import torch
from torch import Tensor

from oakleaf.metrics.neighbours import shuffled


def held_out_rows(count: int) -> Tensor:
    """Return the rows of the held-out third of `count` real images, in a fixed random order, [count // 3]."""
    return shuffled(count)[: count // 3]


def fitting_rows(count: int) -> Tensor:
    """Return the other rows, which extractors are trained on and samples are compared with, in a random order."""
    return shuffled(count)[count // 3 :]


def evaluation_order(count: int) -> Tensor:
    """Return all rows, those of `fitting_rows` first and those of `held_out_rows` last, [count]."""
    return torch.cat([fitting_rows(count), held_out_rows(count)])

"""Discriminators that see a sample's likeness to the others of its batch."""

import torch
from torch import Tensor, nn

from oakleaf.numbers import Count


class MinibatchDiscrimination(nn.Module):
    """For each sample and each of `kernels` kernels how near the batch's other samples are, beside its features.
    Salimans 2016, arXiv:1606.03498, section 3.2:

    M_i = f(x_i) T, c_b(x_i, x_j) = exp(-|M_ib - M_jb|_1), o(x_i)_b = sum over j of c_b(x_i, x_j).

    dims: of each row M_ib. The sum is over the others, j != i, as in the authors' code: a sample's likeness to itself
    is 1, which is a bias. Their code's data-dependent scale of the distances is a learned one here, from 1 on, and T's
    columns are not normalised and the likeness has no bias of its own. Real images and fakes are judged in batches of
    their own, so no penalty on single samples' gradients goes with it.
    """

    mixes_images = True

    def __init__(self, inputs: Count, kernels: Count, dims: Count = 5) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(inputs, kernels, dims) / inputs**0.5)  # T
        self.log_scale = nn.Parameter(torch.zeros(kernels, dims))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, inputs] -> [B, inputs + kernels]"""
        with torch.autocast(x.device.type, enabled=False):
            kernel = self.kernel * self.log_scale.exp()
            rows = torch.einsum("bi,ikd->bkd", x.to(kernel.dtype), kernel)
            apart = (rows[:, None] - rows[None]).abs().sum(3)  # [B, B, kernels]
            likeness = torch.exp(-apart).sum(1) - 1  # without its own
        return torch.cat([x, likeness.to(x.dtype)], 1)

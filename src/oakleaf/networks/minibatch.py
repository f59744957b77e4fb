"""Discriminators that see a sample's likeness to the others of its batch."""

import torch
from torch import Tensor, nn

from oakleaf.config.types import PositiveInt


class MinibatchDiscrimination(nn.Module):
    """For each sample and each of `kernels` kernels how near the batch's other samples are, beside its features.
    Salimans 2016, arXiv:1606.03498, section 3.2:

    M_i = f(x_i) T, c_b(x_i, x_j) = exp(-|M_ib - M_jb|_1), o(x_i)_b = sum over j of c_b(x_i, x_j).

    dims: of each row M_ib. The sum is over the others, j != i, as in the authors' code: a sample's likeness to itself
    is 1, which is a bias. T's columns have a learned length each, from 1 on, as there; what their code besides reads
    from the first batch, a scale of the distances, is left to that length, and the likeness has no bias of its own.
    Real images and fakes are judged in batches of their own, so no penalty on single samples' gradients goes with it.
    """

    mixes_images = True

    def __init__(self, inputs: PositiveInt, kernels: PositiveInt, dims: PositiveInt = 5) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(inputs, kernels, dims) / inputs**0.5)  # T
        self.log_scale = nn.Parameter(torch.zeros(kernels, dims))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, inputs] -> [B, inputs + kernels]"""
        with torch.autocast(x.device.type, enabled=False):
            kernel = self.kernel * (self.log_scale.exp() / self.kernel.norm(dim=0))
            rows = torch.einsum("bi,ikd->bkd", x.to(kernel.dtype), kernel)
            apart = (rows[:, None] - rows[None]).abs().sum(3)  # [B, B, kernels]
            likeness = torch.exp(-apart).sum(1) - 1  # without its own
        return torch.cat([x, likeness.to(x.dtype)], 1)

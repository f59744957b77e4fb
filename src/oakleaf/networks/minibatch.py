"""Features that compare a sample with the others of its batch: minibatch discrimination, minibatch deviation."""

import torch
from torch import Tensor, nn

from oakleaf.config.types import PositiveInt


class MinibatchDiscrimination(nn.Module):
    """Append to each sample's features how similar the other samples of the batch are, by several learned kernels.

    With features f(x_i) and a learned tensor T, M_i = f(x_i) T, and for kernel b

        c_b(x_i, x_j) = exp(-|M_ib - M_jb|_1),    o(x_i)_b = sum over j of c_b(x_i, x_j).

    The sum is over j != i, as in the authors' code: the similarity of a sample to itself is always 1, a constant. T's
    columns have a learned length, initially 1, also as in that code. Two details of the code are left out: it scales
    the distances by the first batch, which the learned lengths can do, and its outputs have a bias.

    Real and generated images have to be scored in separate batches, and a penalty on the gradient of single samples
    does not apply; `mixes_images` marks the layer for that.

    Args:
        inputs: features of a sample.
        kernels: number of kernels b.
        dims: length of each row M_ib.

    Reference: Salimans 2016, arXiv:1606.03498, section 3.2.
    """

    mixes_images = True

    def __init__(self, inputs: PositiveInt, kernels: PositiveInt, dims: PositiveInt = 5) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(inputs, kernels, dims) / inputs**0.5)  # T
        self.log_scale = nn.Parameter(torch.zeros(kernels, dims))

    def forward(self, x: Tensor) -> Tensor:
        """Append the similarities to the features.

        Args:
            x: features [B, inputs].

        Returns:
            Features [B, inputs + kernels].
        """
        with torch.autocast(x.device.type, enabled=False):
            kernel = self.kernel * (self.log_scale.exp() / self.kernel.norm(dim=0))
            rows = torch.einsum("bi,ikd->bkd", x.to(kernel.dtype), kernel)
            distances = (rows[:, None] - rows[None]).abs().sum(3)  # [B, B, kernels]
            similarities = torch.exp(-distances).sum(1) - 1  # without that to itself
        return torch.cat([x, similarities.to(x.dtype)], 1)


class MinibatchStddev(nn.Module):
    """Append to maps how much the samples of a small group differ: their standard deviation, averaged over all else.

    The batch is divided into groups; sample i belongs to group i modulo the number of groups, as in the authors' code.

    Args:
        group: samples in a group; if it does not divide a batch, the next smaller number that does.
        eps: added to the variance.

    Reference: Karras 2017, arXiv:1710.10196, section 3; groups: code of Karras 2019, arXiv:1912.04958.
    """

    mixes_images = True

    def __init__(self, group: PositiveInt = 4, eps: float = 1e-8) -> None:
        super().__init__()
        self.group, self.eps = group, eps

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, C, h, w] to [B, C + 1, h, w]."""
        batch = len(x)
        group = next(count for count in range(min(self.group, batch), 0, -1) if batch % count == 0)
        groups = x.float().unflatten(0, (group, batch // group))
        deviation = (groups.var(0, unbiased=False) + self.eps).sqrt().mean((1, 2, 3))  # [groups]
        maps = deviation.repeat(group)[:, None, None, None].expand(-1, 1, *x.shape[2:])
        return torch.cat([x, maps.to(x.dtype)], 1)

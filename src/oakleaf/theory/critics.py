"""Small critics, many at once, and how they are trained to their optimum."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import silu
from torch.optim.lr_scheduler import CosineAnnealingLR

from oakleaf.round import CriticOutput


class Critics(nn.Module):
    """`count` independent perceptrons with two hidden layers, computed together: the k-th judges the k-th part of a
    batch. To an objective they are one critic, since its mean over the whole batch is the mean of theirs.
    """

    def __init__(self, count: int = 1, inputs: int = 1, width: int = 64) -> None:
        super().__init__()
        self.count = count
        sizes = [(inputs, width), (width, width), (width, 1)]
        self.weights = nn.ParameterList([torch.empty(count, i, o).uniform_(-1, 1) * (3 / i) ** 0.5 for i, o in sizes])
        self.biases = nn.ParameterList([torch.empty(count, 1, o).uniform_(-1, 1) for _, o in sizes])

    def forward(self, x: Tensor) -> CriticOutput:
        """x [count * B, inputs] -> score [count * B]"""
        h = x.unflatten(0, (self.count, -1))
        for weight, bias in zip(self.weights[:-1], self.biases[:-1]):
            h = silu(torch.baddbmm(bias, h, weight))
        return CriticOutput(torch.baddbmm(self.biases[-1], h, self.weights[-1]).flatten())


def descend(loss: Callable[[], Tensor], weights: Iterable[nn.Parameter], steps: int, lr: float) -> None:
    """Minimise by Adam, the rate falling to nothing along half a cosine, so that the end is no noisy iterate."""
    optimizer = torch.optim.Adam(list(weights), lr=lr, fused=True)
    schedule = CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()

"""Small critics, many of them computed together, and their training to the optimum."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import silu
from torch.optim.lr_scheduler import CosineAnnealingLR

from oakleaf.round import CriticOutput


class Critics(nn.Module):
    """Several independent perceptrons with two hidden layers, computed together.

    The k-th critic computes the scores of the k-th part of a batch. An objective can take them for one critic, since
    the mean over the whole batch is the mean of the critics' own means.

    Args:
        count: number of critics.
        inputs: dimensions of a point.
        width: units of each hidden layer.
    """

    def __init__(self, count: int = 1, inputs: int = 1, width: int = 64) -> None:
        super().__init__()
        self.count = count
        sizes = [(inputs, width), (width, width), (width, 1)]
        self.weights = nn.ParameterList([torch.empty(count, i, o).uniform_(-1, 1) * (3 / i) ** 0.5 for i, o in sizes])
        self.biases = nn.ParameterList([torch.empty(count, 1, o).uniform_(-1, 1) for _, o in sizes])

    def forward(self, x: Tensor) -> CriticOutput:
        """Compute the scores [count * B] of points [count * B, inputs]."""
        h = x.unflatten(0, (self.count, -1))
        for weight, bias in zip(self.weights[:-1], self.biases[:-1]):
            h = silu(torch.baddbmm(bias, h, weight))
        return CriticOutput(torch.baddbmm(self.biases[-1], h, self.weights[-1]).flatten())


def minimise(loss: Callable[[], Tensor], weights: Iterable[nn.Parameter], steps: int, lr: float) -> None:
    """Minimise a loss by Adam.

    The learning rate falls to 0 along half a cosine, so that the last iterate is not noisy.

    Args:
        loss: returns the loss on fresh samples.
        weights: what is trained.
        steps: number of steps.
        lr: learning rate at the start.
    """
    optimizer = torch.optim.Adam(list(weights), lr=lr, fused=True)
    schedule = CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()

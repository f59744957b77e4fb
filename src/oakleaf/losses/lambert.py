"""Lambert's W function of an exponential, without overflow."""

from typing import Any

import torch
from torch import Tensor


def lambert_exp(y: Tensor) -> Tensor:
    """Return W(exp(y)): the w with w + log w = y, for any real y.

    Reference: Corless 1996, "On the Lambert W function", section 3.
    """
    return _LambertExp.apply(y)  # type: ignore[no-untyped-call]


class _LambertExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        s = torch.where(y > 1, y.clamp(min=1).log(), y)  # log w, from above: all of Newton's steps decrease it
        for _ in range(6):
            s = s - (s.exp() + s - y) / (s.exp() + 1)
        w = s.exp()
        ctx.save_for_backward(w)
        return w

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (w,) = ctx.saved_tensors
        return gradients[0] * w / (1 + w)

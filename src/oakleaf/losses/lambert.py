"""Lambert's W where it does not overflow."""

from typing import Any

import torch
from torch import Tensor


def lambert_exp(y: Tensor) -> Tensor:
    """W(exp(y)), that is w with w + log w = y, for any real y. Corless 1996, "On the Lambert W function", section 3."""
    return _LambertExp.apply(y)  # type: ignore[no-untyped-call]


class _LambertExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        s = torch.where(y > 1, y.clamp(min=1).log(), y)  # log w, from above, so that Newton's steps all go down
        for _ in range(6):
            s = s - (s.exp() + s - y) / (s.exp() + 1)
        w = s.exp()
        ctx.save_for_backward(w)
        return w

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (w,) = ctx.saved_tensors
        return slopes[0] * w / (1 + w)

"""BatchNorm over the joint batch of several processes: `trainer.sync_batchnorm=true`."""

from typing import Any

import torch
from lightning.pytorch.plugins import LayerSync
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from oakleaf.runtime.distributed import rank_and_world_size


class AllReduceSum(torch.autograd.Function):
    """The sum over all processes, which can be differentiated as often as one likes: its gradient is the sum of all
    processes' gradients."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        total = mine.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return AllReduceSum.apply(gradient)  # type: ignore[no-any-return]


class GlobalBatchNorm(_BatchNorm):
    """Mean and variance of all processes' images, as if one had them all.

    Torch's own SyncBatchNorm runs on GPUs alone and can't be differentiated twice, which a gradient penalty does; this
    one is made of sums that autograd knows.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, ...] -> the same."""
        if not self.training or rank_and_world_size()[1] == 1:
            return super().forward(input)
        x = input.float()  # bf16 has too few digits for a mean
        across = [d for d in range(x.dim()) if d != 1]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        total = AllReduceSum.apply(torch.cat([x.sum(across), x.new_full((1,), x.numel() / x.shape[1])]))
        count = total[-1].detach()
        mean = total[:-1] / count
        centred = x - mean.view(shape)
        variance = AllReduceSum.apply(centred.square().sum(across)) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        normal = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(input.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any."""

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(variance.to(self.running_var), share)


class SyncBatchNorm(LayerSync):
    """Lightning's way to make a module's BatchNorms joint, and single again. They stay the same modules with the same
    weights; only their class changes."""

    def __init__(self) -> None:
        self.single: dict[GlobalBatchNorm, Any] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        for module in list(model.modules()):
            if isinstance(module, _BatchNorm) and not isinstance(module, GlobalBatchNorm):
                was = type(module)
                module.__class__ = GlobalBatchNorm
                self.single[module] = was  # type: ignore[index]
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        for module, was in self.single.items():
            module.__class__ = was
        self.single.clear()
        return model

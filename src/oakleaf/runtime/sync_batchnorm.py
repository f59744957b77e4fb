"""BatchNorm over the global batch of several processes: `trainer.sync_batchnorm=true`."""

from typing import Any

import torch
from lightning.pytorch.plugins import LayerSync
from torch import Tensor, distributed, nn

from oakleaf.runtime.distributed import rank_and_world_size

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class AllReduceSum(torch.autograd.Function):
    """Sum of a tensor over all processes, differentiable any number of times.

    The sum of process r's inputs enters the loss of every process, so the gradient with respect to one input is the
    sum of all processes' gradients: the backward pass is the same function again. Because `backward` calls `apply`,
    autograd records it, and a second backward pass (of a gradient penalty) goes through it like the first.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        """Return the sum over processes, of the same shape."""
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        """Return the sum of the gradients over processes."""
        return AllReduceSum.apply(gradient)  # type: ignore[no-any-return]


class GlobalBatchNorm(nn.BatchNorm1d):
    """BatchNorm with the mean and the variance of the global batch.

    torch.nn.SyncBatchNorm runs on GPUs only, and its hand-written backward pass cannot be differentiated again, which
    a gradient penalty requires. This module is written in differentiable sums (`AllReduceSum`): autograd derives its
    first and second backward pass, on any device. It costs two small all-reduces in each forward pass.

    In eval mode and in a single process it is torch's own BatchNorm.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise a batch [B, C, ...] per channel.

        Mean and variance are computed in fp32, as bf16 has too few digits for them. The variance is the mean of
        (x - mean)^2 with the global mean, not E[x^2] - mean^2, which loses digits.
        """
        if not self.training or rank_and_world_size()[1] == 1:
            return super().forward(input)
        x = input.float()
        all_but_channels = [d for d in range(x.dim()) if d != 1]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        total = AllReduceSum.apply(torch.cat([x.sum(all_but_channels), x.new_full((1,), x.numel() / x.shape[1])]))
        count = total[-1].detach()
        mean = total[:-1] / count
        centred = x - mean.view(shape)
        variance = AllReduceSum.apply(centred.square().sum(all_but_channels)) / count
        self._update_running_statistics(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        normalised = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(input.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Allow any number of dimensions."""

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), momentum)
        self.running_var.lerp_(variance.to(self.running_var), momentum)


class SyncBatchNorm(LayerSync):
    """Lightning plugin that turns a module's BatchNorm layers into `GlobalBatchNorm`, and back after training.

    Only the class of each layer changes. Parameters, buffers and the layer objects stay the same, so optimizers and
    EMA copies keep their references.
    """

    def __init__(self) -> None:
        self.original_classes: dict[GlobalBatchNorm, Any] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        """Change the class of every BatchNorm layer of a module."""
        for module in list(model.modules()):
            if isinstance(module, BATCH_NORMS) and not isinstance(module, GlobalBatchNorm):
                original = type(module)
                module.__class__ = GlobalBatchNorm
                self.original_classes[module] = original  # type: ignore[index]
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Restore the classes that `apply` has changed."""
        for module, original in self.original_classes.items():
            module.__class__ = original
        self.original_classes.clear()
        return model

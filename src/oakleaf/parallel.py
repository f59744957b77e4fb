"""Several processes, one game."""

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed


class AllReduce(DDPStrategy):
    """Data parallelism by one flat all-reduce of a player's gradients after its backward pass (`average`).

    DistributedDataParallel's wrapper does not fit the game: each turn uses half of the weights, which it takes for an
    error or searches the graph for, and its reducer knows nothing of a second backward pass inside a penalty. Here
    nothing is wrapped; weights and buffers start equal to rank 0's.
    """

    strategy_name = "all_reduce"

    def configure_ddp(self) -> None:
        assert self.lightning_module is not None
        for tensor in [*self.lightning_module.parameters(), *self.lightning_module.buffers()]:
            distributed.broadcast(tensor.detach(), src=0)


def average(gradients: list[Tensor]) -> None:
    """Replace each gradient by its mean over all processes; nothing happens where there is only one."""
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    pieces = torch.split(flat, [gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [piece.view(g.shape) for piece, g in zip(pieces, gradients)])

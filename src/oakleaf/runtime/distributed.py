"""Several processes, one game."""

from collections.abc import Callable

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed

from oakleaf import compat
from oakleaf.errors import UserError


class AllReduceStrategy(DDPStrategy):
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


def all_reduce_mean(gradients: list[Tensor]) -> None:
    """Replace each gradient by its mean over all processes; nothing happens where there is only one."""
    world = rank_and_world_size()[1]
    if world == 1:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= world
    pieces = torch.split(flat, [gradient.numel() for gradient in gradients])
    compat.foreach_copy_(gradients, [piece.view(g.shape) for piece, g in zip(pieces, gradients)])


def rank_and_world_size() -> tuple[int, int]:
    """This process's rank, and how many there are."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def run_on_rank_zero(do: Callable[[], None]) -> None:
    """Done by the first process, while the others wait.

    Raises:
        Exception: what the first one raised; and a UserError with its words in the others, which would wait for ever.
    """
    rank, world = rank_and_world_size()
    failed: Exception | None = None
    if rank == 0:
        try:
            do()
        except Exception as error:
            failed = error
    said = [str(failed) if isinstance(failed, UserError) else failed and repr(failed)]
    if world > 1:
        distributed.broadcast_object_list(said)
    if failed:
        raise failed
    if said[0]:
        raise UserError(said[0])


def all_gather(mine: Tensor) -> Tensor:
    """The rows of all processes [N, ...], in the order of their ranks; shares may differ."""
    world = rank_and_world_size()[1]
    if world == 1:
        return mine
    count = torch.tensor([len(mine)], device=mine.device)
    counts = [torch.zeros_like(count) for _ in range(world)]
    distributed.all_gather(counts, count)
    most = int(torch.stack(counts).max())
    padded = torch.cat([mine, mine.new_zeros(most - len(mine), *mine.shape[1:])])
    found = [torch.empty_like(padded) for _ in range(world)]
    distributed.all_gather(found, padded.contiguous())
    return torch.cat([rows[: int(n)] for rows, n in zip(found, counts)])


def all_true(here: bool, device: torch.device) -> bool:
    """Whether it is so in every process."""
    return bool(all_gather(torch.tensor([here], device=device)).all())


def broadcast_scalar(value: float, device: torch.device) -> float:
    """Rank 0's value, in every process: what they decide by must be equal to the last bit."""
    return float(all_gather(torch.tensor([value], device=device, dtype=torch.float32))[0])

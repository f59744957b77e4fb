"""Training and computing in several processes: gradient averaging, gathering and agreement between ranks.

Every function works in a single process too, where no process group exists.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed

from oakleaf import compat
from oakleaf.errors import UserError

SECONDS_TO_END = 10.0  # for the further processes of a run, before they are killed
T = TypeVar("T")


class AllReduceStrategy(DDPStrategy):
    """Data parallelism with one flat all-reduce of a player's gradients after its backward pass (`all_reduce_mean`).

    torch's DistributedDataParallel does not fit the training of a GAN, for two reasons. Each player's step uses only a
    part of the parameters: DDP either reports the others as an error or searches the graph for them in every step. And
    its reducer starts an all-reduce as soon as a gradient is ready, so it does not support the additional backward pass
    inside a gradient penalty. Here no module is wrapped; `GAN.player_step` averages the finished gradients itself. What
    is given up is the overlap of communication with the backward pass.

    Lightning's launcher and process group are those of its DDP strategy.
    """

    strategy_name = "all_reduce"

    def configure_ddp(self) -> None:
        """Broadcast rank 0's parameters and buffers, so that all ranks start with the same network."""
        assert self.lightning_module is not None
        for tensor in [*self.lightning_module.parameters(), *self.lightning_module.buffers()]:
            distributed.broadcast(tensor.detach(), src=0)


def all_reduce_mean(gradients: list[Tensor]) -> None:
    """Replace each tensor by its mean over all processes, in place.

    All tensors are concatenated into one, so that there is one all-reduce and not one per parameter. With one process
    nothing happens.

    Args:
        gradients: tensors of any shapes, of one device and type; the same shapes in every process.
    """
    world = rank_and_world_size()[1]
    if world == 1:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= world
    pieces = torch.split(flat, [gradient.numel() for gradient in gradients])
    compat.foreach_copy_(gradients, [piece.view(g.shape) for piece, g in zip(pieces, gradients)])


def take_mean(recorded: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes, and set the tensor to zero in place."""
    taken = recorded.clone()
    all_reduce_mean([taken])
    recorded.zero_()
    return taken


def rank_and_world_size() -> tuple[int, int]:
    """Return this process's rank and the number of processes; (0, 1) without a process group."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


@contextmanager
def end_processes(trainer: Any) -> Iterator[None]:
    """End the further processes that the trainer has started for a run, if the block in the first one fails.

    Left alone, they would wait for it in their next collective operation.
    """
    try:
        yield
    except BaseException:
        processes = list(getattr(trainer.strategy.launcher, "procs", []))
        for process in processes:
            process.terminate()
        end = time.monotonic() + SECONDS_TO_END
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))
            process.kill()
        raise


def run_on_rank_zero(action: Callable[[], None]) -> None:
    """Run an action in the first process while the others wait.

    Args:
        action: what to run, such as preparing a file that all processes read afterwards.

    Raises:
        Exception: in the first process, what the action has raised. In the others a UserError with the same message;
            otherwise they would wait forever for a process that has ended.
    """
    rank, world = rank_and_world_size()
    failure: Exception | None = None
    if rank == 0:
        try:
            action()
        except Exception as error:
            failure = error
    message = [str(failure) if isinstance(failure, UserError) else failure and repr(failure)]
    if world > 1:
        distributed.broadcast_object_list(message)
    if failure:
        raise failure
    if message[0]:
        raise UserError(message[0])


def all_gather(rows: Tensor) -> Tensor:
    """Concatenate the rows of all processes in the order of their ranks.

    Args:
        rows: [N_r, ...]; the number of rows may differ between processes.

    Returns:
        [sum of N_r, ...], the same in every process.
    """
    world = rank_and_world_size()[1]
    if world == 1:
        return rows
    count = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.zeros_like(count) for _ in range(world)]
    distributed.all_gather(counts, count)
    largest = int(torch.stack(counts).max())
    padded = torch.cat([rows, rows.new_zeros(largest - len(rows), *rows.shape[1:])])
    gathered = [torch.empty_like(padded) for _ in range(world)]
    distributed.all_gather(gathered, padded.contiguous())
    return torch.cat([part[: int(n)] for part, n in zip(gathered, counts)])


def all_true(value: bool, device: torch.device) -> bool:
    """Return whether a condition holds in every process; the same answer in each."""
    return bool(all_gather(torch.tensor([value], device=device)).all())


def broadcast_scalar(value: float, device: torch.device) -> float:
    """Return rank 0's value in every process, rounded to fp32.

    Use it for a number by which processes decide what to do next: if their values differed in the last bit, they could
    decide differently, and one would wait for the others forever.
    """
    return float(all_gather(torch.tensor([value], device=device, dtype=torch.float32))[0])


def broadcast_tensors(tensors: list[Tensor]) -> None:
    """Replace tensors by rank 0's, in place.

    Args:
        tensors: of the same shapes and types in every process.
    """
    if rank_and_world_size()[1] > 1:
        for tensor in tensors:
            distributed.broadcast(tensor.detach(), src=0)


def broadcast_object(value: T) -> T:
    """Return rank 0's value, any object that can be pickled, in every process."""
    values = [value]
    if rank_and_world_size()[1] > 1:
        distributed.broadcast_object_list(values)
    return values[0]

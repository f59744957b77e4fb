"""The order in which images are dealt: a function of (seed, turn) alone, so a resumed run needs no loader's state."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from oakleaf.runtime.seeds import derive_seed

Rows = dict[str, Tensor]


class EpochSampler:
    """Shuffles `count` images anew each epoch and deals them in global batches of `batch`, of which each rank gets its
    own part; the rest that fills no batch waits for the next shuffle.

    again: a few rows [n] of which as many are dealt besides, at the end of each indices: all of them in a shuffled order,
    then all of them in another, and so on (as the code of Salimans 2016, arXiv:1606.03498, repeats its labelled
    images). None for none.
    """

    def __init__(
        self, count: int, batch: int, seed: int, rank: int = 0, world: int = 1, oversample: Tensor | None = None
    ) -> None:
        self.count, self.batch, self.seed, self.rank, self.world = count, batch, seed, rank, world
        self.batches_per_epoch = count // (batch * world)
        self.oversample = oversample

    def batches(self, iteration: int, device: torch.device | str = "cpu") -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch's length of hands beginning with the given turn: (rows [batch], whether to mirror each [batch]),
        both of twice the length where some are dealt again. An epoch's hands go to the device at once, so that no turn
        waits for a copy."""
        epoch = None
        for now in range(iteration, iteration + self.batches_per_epoch):
            if epoch != now // self.batches_per_epoch:
                epoch = now // self.batches_per_epoch
                rows, mirrored = (part.to(device) for part in self._epoch(epoch))
            yield rows[now % self.batches_per_epoch], mirrored[now % self.batches_per_epoch]

    def _epoch(self, number: int) -> tuple[Tensor, Tensor]:
        """All hands of an epoch, [batches, batch]."""
        rows, mirrored = self._own(*self.shuffle(self.count, "deck", number))
        if self.oversample is not None:
            few, sides = self._own(
                *self._few(self.oversample, number * self.batches_per_epoch * self.world * self.batch)
            )
            rows, mirrored = torch.cat([rows, few], 1), torch.cat([mirrored, sides], 1)
        return rows, mirrored

    def _own(self, *columns: Tensor) -> list[Tensor]:
        """This rank's part of an epoch that begins each column."""
        shape = self.batches_per_epoch, self.world, self.batch
        return [column[: math.prod(shape)].view(shape)[:, self.rank] for column in columns]

    def _few(self, rows: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """As many of the few rows' endless tilings as an epoch needs or more, beginning with the given place."""
        first, last = start // len(rows), (start + self.batches_per_epoch * self.world * self.batch - 1) // len(rows)
        tilings = [self.shuffle(len(rows), "again", tiling) for tiling in range(first, last + 1)]
        order, mirrored = (torch.cat(column)[start - first * len(rows) :] for column in zip(*tilings))
        return rows[order], mirrored

    def shuffle(self, count: int, what: str, number: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, what, number))
        return torch.randperm(count, generator=generator), torch.rand(count, generator=generator) < 0.5


class DeviceLoader:
    """Batches gathered on the device where all images lie, as networks read them: channels last, so that a batch is
    whole images copied, and nothing is laid out anew every turn.
    """

    def __init__(self, rows: Rows, sampler: EpochSampler, iteration: Callable[[], int]) -> None:
        self.rows = {
            name: values.contiguous(memory_format=torch.channels_last) if values.dim() == 4 else values
            for name, values in rows.items()
        }
        self.sampler, self.iteration = sampler, iteration

    def __len__(self) -> int:
        return self.sampler.batches_per_epoch

    def __iter__(self) -> Iterator[Rows]:
        device = next(iter(self.rows.values())).device
        for rows, mirrored in self.sampler.batches(
            self.iteration(), device
        ):  # asked at the first batch: a resumed run knows it
            yield {**{name: _take_rows(values, rows) for name, values in self.rows.items()}, "mirrored": mirrored}


def _take_rows(values: Tensor, rows: Tensor) -> Tensor:
    if values.dim() != 4:
        return values.index_select(0, rows)
    return values.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)  # in the order of memory: 25 x as fast


class WorkerLoader:
    """The same batches, gathered from the memory-mapped cache by worker processes; on a GPU one is ahead there."""

    def __init__(
        self,
        rows: Rows,
        sampler: EpochSampler,
        iteration: Callable[[], int],
        workers: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.sampler, self.device = sampler, torch.device(device)
        self.loader: DataLoader[Any] = DataLoader(
            _RowDataset(rows),
            batch_sampler=_BatchSampler(sampler, iteration),  # type: ignore[arg-type]
            num_workers=workers,
            pin_memory=self.device.type == "cuda",
            persistent_workers=workers > 0,
            collate_fn=_identity,
        )

    def __len__(self) -> int:
        return self.sampler.batches_per_epoch

    def __iter__(self) -> Iterator[Rows]:
        # a generator, so that nothing is fetched before the first batch is asked for
        yield from prefetch(self.loader, self.device) if self.device.type == "cuda" else self.loader

    def close(self) -> None:
        """End the workers. The garbage collector would find their queues gone, and wait five seconds for each."""
        if (running := self.loader._iterator) is not None and hasattr(running, "_shutdown_workers"):
            running._shutdown_workers()
        self.loader._iterator = None


def prefetch(batches: Iterable[Rows], device: torch.device) -> Iterator[Rows]:
    """Batches on the GPU, each copied while the turn before it is computed, on a stream of its own. They are to lie in
    pinned memory."""
    copying, waiting = torch.cuda.Stream(device), None
    for batch in batches:
        with torch.cuda.stream(copying):
            there = {name: values.to(device, non_blocking=True) for name, values in batch.items()}
        copied = copying.record_event()
        if waiting:
            yield _on_current_stream(*waiting)
        waiting = there, copied
    if waiting:
        yield _on_current_stream(*waiting)


def _on_current_stream(batch: Rows, copied: torch.cuda.Event) -> Rows:
    derive_seed = torch.cuda.current_stream()
    derive_seed.wait_event(copied)
    for values in batch.values():
        values.record_stream(derive_seed)  # so that its memory is not given away before the turn is over
    return batch


class UnpairedLoader:
    """Batches of images, and with each one of inputs, which are dealt on their own: they have no order in common, and
    one epoch of the images is no epoch of theirs.

    inputs: a way to get their loader, told by what turn to begin.
    """

    def __init__(
        self,
        images: DeviceLoader | WorkerLoader,
        inputs: Callable[[Callable[[], int]], DeviceLoader | WorkerLoader],
        iteration: Callable[[], int],
    ) -> None:
        self.images, self.iteration, self.next = images, iteration, 0
        self.inputs = inputs(lambda: self.next)

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Rows]:
        self.next = self.iteration()
        others = iter(self.inputs)
        for batch in self.images:
            try:
                other = next(others)
            except StopIteration:
                others = iter(self.inputs)
                other = next(others)
            self.next += 1
            yield {**batch, "input": other["input"], "input_mirrored": other["mirrored"]}


class _BatchSampler:
    def __init__(self, sampler: EpochSampler, iteration: Callable[[], int]) -> None:
        self.sampler, self.iteration = sampler, iteration

    def __len__(self) -> int:
        return self.sampler.batches_per_epoch

    def __iter__(self) -> Iterator[list[tuple[int, bool]]]:
        for rows, mirrored in self.sampler.batches(self.iteration()):
            yield list(zip(rows.tolist(), mirrored.tolist()))


class _RowDataset(Dataset[Any]):
    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __getitems__(self, indices: list[tuple[int, bool]]) -> Rows:
        rows, mirrored = torch.tensor([row for row, _ in indices]), torch.tensor([mirror for _, mirror in indices])
        return {**{name: values[rows] for name, values in self.rows.items()}, "mirrored": mirrored}


def _identity(batch: Any) -> Any:
    return batch

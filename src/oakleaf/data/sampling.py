"""The order of the training data, and the loaders that gather batches in that order.

Which rows are in a batch is a function of (seed, iteration) alone. `EpochSampler` seeds a new random generator for each
epoch from the run's seed and the number of the epoch, and the iteration says which batch of the epoch comes next. So a
resumed run continues with the batch it would have had, and a checkpoint needs no state of a loader: a loader is given a
function that returns the current iteration, and calls it when its first batch is requested, which is after Lightning
has restored the checkpoint. Each loader gives the same batches, and several processes divide the global batch that a
single process would have.

There are three loaders. `DeviceLoader` indexes a tensor on the training device. `WorkerLoader` reads from the
memory-mapped cache in worker processes, for sets that do not fit on the device. `UnpairedLoader` combines two of them.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from oakleaf import compat
from oakleaf.runtime.seeds import derive_seed
from oakleaf.runtime.signals import leave_signals_to_parent

Rows = dict[str, Tensor]  # tensors by name, of one length N: a whole data set, or a batch


class EpochSampler:
    """Shuffle `count` rows anew in each epoch and divide them into batches.

    A global batch has `batch * world` rows, of which each rank takes its own part. The rows that fill no global batch
    at the end of an epoch are left out; the next epoch is another shuffle of all rows.

    With `oversample`, each batch is followed by as many rows again, taken from these few rows only: all of them in a
    random order, then all of them in another, and so on, across the borders of epochs. Semi-supervised GANs need this:
    with 100 labelled images of 60,000, few plain batches would contain a labelled one.

    Args:
        count: the number of rows, N.
        batch: rows in a batch of one process.
        seed: of the run; together with the epoch it decides the order.
        rank: the number of this process.
        world: the number of processes.
        oversample: [n] int64, the rows that are repeated in each batch; None for no repetition.
        balance: [N], the class of each row; an epoch has as many rows as without it, equally many of each class. The
            rows of a rare class are repeated, all of them equally often; of a frequent one each epoch has others. None:
            each row once.

    Reference: the oversampling is that of the code of Salimans 2016, arXiv:1606.03498, which repeats its labelled
    images.
    """

    def __init__(
        self,
        count: int,
        batch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        oversample: Tensor | None = None,
        balance: Tensor | None = None,
    ) -> None:
        self.count, self.batch, self.seed, self.rank, self.world = count, batch, seed, rank, world
        self.batches_per_epoch = count // (batch * world)
        self.oversample = oversample
        self.classes = [] if balance is None else [torch.nonzero(balance == k).flatten() for k in balance.unique()]

    def batches(self, iteration: int, device: torch.device | str = "cpu") -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over as many batches as an epoch has, from any iteration on, across the border of an epoch.

        Args:
            iteration: the iteration of the first batch; 0 is the first of the run.
            device: where the results are. The order of a whole epoch is copied at once, so that no iteration waits
                for a copy.

        Yields:
            Row numbers [batch] int64, and which images to mirror (if the data are flipped), [batch] bool; both
            [2 * batch] with `oversample`, the repeated rows in the second half.
        """
        epoch = None
        for current in range(iteration, iteration + self.batches_per_epoch):
            if epoch != current // self.batches_per_epoch:
                epoch = current // self.batches_per_epoch
                rows, mirrored = (part.to(device) for part in self._epoch_batches(epoch))
            yield rows[current % self.batches_per_epoch], mirrored[current % self.batches_per_epoch]

    def _epoch_batches(self, epoch: int) -> tuple[Tensor, Tensor]:
        """Row numbers and mirroring of this rank's batches in an epoch, [batches, batch]."""
        # the texts "deck" and "again" are part of the seeds: other texts would change the order of every run
        order, mirrors = self.shuffle(self.count, "deck", epoch)
        rows, mirrored = self._rank_part(self._balanced(epoch) if self.classes else order, mirrors)
        if self.oversample is not None:
            start = epoch * self.batches_per_epoch * self.world * self.batch
            count = self.batches_per_epoch * self.world * self.batch
            repeated, repeated_mirrored = self._rank_part(*self._repeated(self.oversample, start, count, "again"))
            rows, mirrored = torch.cat([rows, repeated], 1), torch.cat([mirrored, repeated_mirrored], 1)
        return rows, mirrored

    def _balanced(self, epoch: int) -> Tensor:
        """As many rows as the set has, [count], equally many of each class, in random order."""
        class_of, _ = self.shuffle(self.count, "balance", epoch)
        class_of %= len(self.classes)
        most = -(-self.count // len(self.classes))
        order = torch.empty_like(class_of)
        for number, members in enumerate(self.classes):
            rows, _ = self._repeated(members, epoch * most, most, f"balance {number}")
            places = torch.nonzero(class_of == number).flatten()
            order[places] = rows[: len(places)]
        return order

    def _rank_part(self, *columns: Tensor) -> list[Tensor]:
        """This rank's batches, [batches, batch], of columns that begin with the rows of an epoch in order."""
        shape = self.batches_per_epoch, self.world, self.batch
        return [column[: math.prod(shape)].view(shape)[:, self.rank] for column in columns]

    def _repeated(self, rows: Tensor, start: int, count: int, purpose: str) -> tuple[Tensor, Tensor]:
        """`count` rows, or a few more, of the endless sequence of shuffles of a few rows, from `start` on."""
        end = start + count
        first, last = start // len(rows), (end - 1) // len(rows)
        shuffles = [self.shuffle(len(rows), purpose, number) for number in range(first, last + 1)]
        order, mirrored = (torch.cat(column)[start - first * len(rows) :] for column in zip(*shuffles))
        return rows[order], mirrored

    def shuffle(self, count: int, purpose: str, number: int) -> tuple[Tensor, Tensor]:
        """Return a random order and random mirroring, which depend on the seed and the arguments alone.

        Args:
            count: how many rows.
            purpose: a text that makes the random stream different from others of the same seed.
            number: of the epoch, or of the repetition.

        Returns:
            A permutation [count] int64, and [count] bool, true for half of them on average.
        """
        generator = torch.Generator().manual_seed(derive_seed(self.seed, purpose, number))
        return torch.randperm(count, generator=generator), torch.rand(count, generator=generator) < 0.5


class DeviceLoader:
    """Gather batches from rows that are all on the training device.

    Images are held in the channels-last layout that the networks use, so that a batch is a copy of whole images and
    needs no change of layout in each iteration.

    Args:
        rows: the data set, on the device: `image` [N, C, H, W] and further rows [N, ...].
        sampler: the order.
        iteration: returns the current iteration of the run; called when an epoch begins.
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
        """Iterate over the batches of an epoch: all rows, and `mirrored` [B] bool."""
        device = next(iter(self.rows.values())).device
        # a generator, so the iteration is read with the first batch, when a resumed run knows it
        for rows, mirrored in self.sampler.batches(self.iteration(), device):
            yield {**{name: _take_rows(values, rows) for name, values in self.rows.items()}, "mirrored": mirrored}


def _take_rows(values: Tensor, rows: Tensor) -> Tensor:
    if values.dim() != 4:
        return values.index_select(0, rows)
    # indexing in the order of memory is 25 times as fast
    return values.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)


class WorkerLoader:
    """Gather the same batches as `DeviceLoader` from the memory-mapped cache, by worker processes.

    On a GPU the next batch is copied while the current one is used; see `prefetch`.

    Args:
        rows: the data set, on the CPU.
        sampler: the order.
        iteration: returns the current iteration of the run; called when an epoch begins.
        workers: the number of worker processes; 0: this process reads.
        device: where the batches are needed.
    """

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
            worker_init_fn=_start_worker,
        )

    def __len__(self) -> int:
        return self.sampler.batches_per_epoch

    def __iter__(self) -> Iterator[Rows]:
        """Iterate over the batches of an epoch: all rows, and `mirrored` [B] bool."""
        # a generator, so that nothing is read before the first batch is requested
        yield from prefetch(self.loader, self.device) if self.device.type == "cuda" else self.loader

    def close(self) -> None:
        """Stop the worker processes.

        Left to the garbage collector, each would be stopped only after a timeout of five seconds, because its queue no
        longer exists by then.
        """
        compat.shutdown_workers(self.loader)


def prefetch(batches: Iterable[Rows], device: torch.device) -> Iterator[Rows]:
    """Copy each batch to the GPU while the previous one is used.

    A copy from pinned memory to the GPU does not need the GPU's processors, so it can run at the same time as the
    computation, but only if it is on a CUDA stream of its own: operations of one stream run one after the other. Two
    things keep this correct. The computation stream waits for the event that marks the end of the copy of its batch;
    and the batch's memory is marked as used by the computation stream, since it was allocated on the copying stream,
    which would otherwise reuse it for the next batch while the computation still reads it.

    Args:
        batches: in pinned memory (in other memory, the copies are correct but not concurrent).
        device: the GPU.

    Yields:
        The batches, on the GPU.
    """
    copy_stream, previous = torch.cuda.Stream(device), None
    for batch in batches:
        with torch.cuda.stream(copy_stream):
            on_device = {name: values.to(device, non_blocking=True) for name, values in batch.items()}
        copied = copy_stream.record_event()
        if previous:
            yield _on_current_stream(*previous)
        previous = on_device, copied
    if previous:
        yield _on_current_stream(*previous)


def _on_current_stream(batch: Rows, copied: torch.cuda.Event) -> Rows:
    """The batch, once the current stream waits for its copy and its memory is marked as used by that stream."""
    stream = torch.cuda.current_stream()
    stream.wait_event(copied)
    for values in batch.values():
        values.record_stream(stream)
    return batch


class UnpairedLoader:
    """Combine batches of images with batches of inputs that are shuffled independently of them.

    In unpaired translation an image and an input in one batch have nothing to do with each other, and the two sets
    have different lengths. So each has its own sampler; a new epoch of the inputs begins whenever the last one ends,
    wherever the images are in theirs. The length is that of the images.

    Args:
        images: the loader of the images.
        inputs: makes the loader of the inputs, given a function that returns the iteration at which it begins.
        iteration: returns the current iteration of the run.
    """

    def __init__(
        self,
        images: DeviceLoader | WorkerLoader,
        inputs: Callable[[Callable[[], int]], DeviceLoader | WorkerLoader],
        iteration: Callable[[], int],
    ) -> None:
        self.images, self.iteration, self.next_iteration = images, iteration, 0
        self.inputs = inputs(lambda: self.next_iteration)

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Rows]:
        """Iterate over the batches of an epoch of images, each with `input` and `input_mirrored` of its inputs."""
        self.next_iteration = self.iteration()
        input_batches = iter(self.inputs)
        for batch in self.images:
            try:
                inputs = next(input_batches)
            except StopIteration:
                input_batches = iter(self.inputs)
                inputs = next(input_batches)
            self.next_iteration += 1
            yield {**batch, "input": inputs["input"], "input_mirrored": inputs["mirrored"]}


class _BatchSampler:
    """An `EpochSampler` in the form that torch's DataLoader expects: (row, mirrored) pairs in place of indices."""

    def __init__(self, sampler: EpochSampler, iteration: Callable[[], int]) -> None:
        self.sampler, self.iteration = sampler, iteration

    def __len__(self) -> int:
        return self.sampler.batches_per_epoch

    def __iter__(self) -> Iterator[list[tuple[int, bool]]]:
        for rows, mirrored in self.sampler.batches(self.iteration()):
            yield list(zip(rows.tolist(), mirrored.tolist()))


class _RowDataset(Dataset[Any]):
    """Whole batches by the (row, mirrored) pairs of `_BatchSampler`."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __getitems__(self, indices: list[tuple[int, bool]]) -> Rows:
        rows, mirrored = torch.tensor([row for row, _ in indices]), torch.tensor([mirror for _, mirror in indices])
        return {**{name: values[rows] for name, values in self.rows.items()}, "mirrored": mirrored}


def _identity(batch: Any) -> Any:
    return batch


def _start_worker(_: int) -> None:
    leave_signals_to_parent()

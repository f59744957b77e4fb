"""Reading a user's data, one reader for each kind: by number, as a stream, and by a data module's own loaders.

The training order of a map-style set is a function of (seed, iteration), as for all other data. The random numbers of a
set's own transforms are drawn from generators that are seeded for each batch, or for each epoch of a stream or loader.
"""

import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset
from torch.utils.data.distributed import DistributedSampler
from tqdm import tqdm

from oakleaf.data.items import ItemFormat, stack
from oakleaf.data.protocol import rows_of
from oakleaf.data.sampling import EpochSampler, Rows
from oakleaf.errors import UserError
from oakleaf.runtime.seeds import derive_seed

log = logging.getLogger(__name__)

INSPECTED = 64  # items by which the form of all is learned
CHUNK = 64  # items that are read together
Iteration = Callable[[], int]


@contextmanager
def seeded(*key: int | str) -> Iterator[None]:
    """Draw the random numbers of the block, of torch, numpy and Python, from a key; the states before are restored."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    seed = derive_seed(*key)
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


class MapReader:
    """A map-style set, whose items are read by number.

    Args:
        dataset: has `__len__` and `__getitem__`.
        workers: the number of worker processes.
        seed: of the random numbers of the set's own transforms.
    """

    def __init__(self, dataset: Any, workers: int, seed: int) -> None:
        self.dataset, self.workers, self.seed = dataset, workers, seed
        if not len(dataset):
            raise UserError(f"{type(dataset).__name__} is empty")

    def inspect(self) -> list[Any]:
        """Return items from all over the set."""
        rows = sorted({i * len(self.dataset) // INSPECTED for i in range(INSPECTED)})
        return [self.item(row) for row in rows]

    def item(self, row: int) -> Any:
        """Return an item; its random transforms are the same in each call."""
        with seeded(self.seed, "item", row):
            return self.dataset[row]

    def read(self, form: ItemFormat, rows: Tensor, only: Sequence[str], description: str = "reading") -> Rows:
        """Read items by number.

        Args:
            form: converts an item.
            rows: [B] int64.
            only: the names of the rows that are needed.
            description: the label of the progress bar.

        Returns:
            The rows [B, ...] by name.
        """
        reading = _Reading(self, form, only)
        batches = [part.tolist() for part in rows.split(CHUNK)]
        workers = self.workers if len(batches) > 4 * self.workers else 0
        loader: DataLoader[Any] = DataLoader(
            reading, batch_sampler=batches, num_workers=workers, collate_fn=list  # type: ignore[arg-type]
        )  # fmt: skip
        hidden = None if len(rows) > 500 else True  # None: shown in a terminal
        bar = tqdm(total=len(rows), desc=description, unit="img", leave=False, disable=hidden)
        found: list[dict[str, Any]] = []
        with bar:
            for items in loader:
                found += items
                bar.update(len(items))
        return {name: stack([item[name] for item in found]) for name in only}

    def loader(self, form: ItemFormat, sampler: EpochSampler, iteration: Iteration, rank: int) -> "MapLoader":
        """Return the loader of the training batches."""
        return MapLoader(self, form, sampler, iteration, rank)


class _Reading(Dataset[Any]):
    """Items of a map-style set, converted, by number."""

    def __init__(self, reader: MapReader, form: ItemFormat, only: Sequence[str]) -> None:
        self.reader, self.form, self.only = reader, form, only

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.form.rows(self.reader.item(row), self.only)


class MapLoader:
    """Batches of a map-style set, in the order of an `EpochSampler`, read by worker processes."""

    def __init__(
        self, reader: MapReader, form: ItemFormat, sampler: EpochSampler, iteration: Iteration, rank: int
    ) -> None:
        self.sampler = sampler
        self.loader: DataLoader[Any] = DataLoader(
            _TrainingItems(reader, form, rank),
            batch_sampler=_NumberedBatches(sampler, iteration),  # type: ignore[arg-type]
            num_workers=reader.workers,
            persistent_workers=reader.workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=_identity,
        )

    def __len__(self) -> int:
        return self.sampler.batches_per_epoch

    def __iter__(self) -> Iterator[Rows]:
        yield from self.loader  # a generator, so that nothing is read before the first batch is requested


class _NumberedBatches:
    """An `EpochSampler` as torch's DataLoader expects it: (iteration, row, mirrored) in place of indices."""

    def __init__(self, sampler: EpochSampler, iteration: Iteration) -> None:
        self.sampler, self.iteration = sampler, iteration

    def __len__(self) -> int:
        return self.sampler.batches_per_epoch

    def __iter__(self) -> Iterator[list[tuple[int, int, bool]]]:
        first = self.iteration()
        for number, (rows, mirrored) in enumerate(self.sampler.batches(first), first):
            yield [(number, row, mirror) for row, mirror in zip(rows.tolist(), mirrored.tolist())]


class _TrainingItems(Dataset[Any]):
    """Whole batches by what `_NumberedBatches` yields."""

    def __init__(self, reader: MapReader, form: ItemFormat, rank: int) -> None:
        self.reader, self.form, self.rank = reader, form, rank

    def __getitems__(self, indices: list[tuple[int, int, bool]]) -> Rows:
        with seeded(self.reader.seed, "items", indices[0][0], self.rank):
            items = [self.form.rows(self.reader.dataset[row]) for _, row, _ in indices]
        batch = {name: stack([item[name] for item in items]) for name in items[0]}
        rows, mirrored = (torch.tensor([index[i] for index in indices]) for i in (1, 2))
        return {**batch, "mirrored": mirrored, "row": rows}


def _identity(batch: Any) -> Any:
    return batch


class Streaming(ABC):
    """Data that are read in their own order. Their first images stand for the set where images are asked by number."""

    @abstractmethod
    def first_items(self, count: int) -> Iterator[Any]:
        """Iterate over the first items, or the first batches, which are the same in each call.

        Args:
            count: so many images at most; a batch is not divided.
        """

    @abstractmethod
    def first_rows(self, form: ItemFormat, count: int) -> Iterator[Rows]:
        """Iterate over the same items as batches of rows."""

    def first_held(self, form: ItemFormat, count: int) -> Rows:
        """Return the rows of the first images, at most `count`."""
        bar = tqdm(total=count, desc="reading", unit="img", leave=False, disable=None)
        parts: list[Rows] = []
        with bar:
            for part in self.first_rows(form, count):
                parts.append(part)
                bar.update(len(part["image"]))
        if not parts:
            raise UserError("the data have no images")
        return {name: _concatenate([part[name] for part in parts])[:count] for name in parts[0]}


def _concatenate(parts: Sequence[Tensor]) -> Tensor:
    """Rows of several batches as one; texts are padded to the longest."""
    if parts[0].dim() == 2:
        longest = max(part.shape[1] for part in parts)
        parts = [torch.nn.functional.pad(part, (0, longest - part.shape[1])) for part in parts]
    return torch.cat(list(parts))


class StreamReader(Streaming):
    """An iterable set. Each epoch is one pass over it, in its own order.

    Several processes: each reads all items and takes every n-th, so an epoch is divided without repetition; with
    `sharded` the set itself gives each process other items, and each process takes all that it is given. The worker
    processes of one process are the set's own affair, as torch has it: a set that does not ask
    `torch.utils.data.get_worker_info` gives each of them the same items.

    Args:
        dataset: has `__iter__`.
        workers: the number of worker processes.
        seed: of the random numbers of the set's own transforms.
        batch_size: images in a batch of one process.
        sharded: whether the set divides itself among processes.
    """

    def __init__(self, dataset: Any, workers: int, seed: int, batch_size: int, sharded: bool) -> None:
        self.dataset, self.workers, self.seed = dataset, workers, seed
        self.batch_size, self.sharded = batch_size, sharded

    def inspect(self) -> list[Any]:
        """Return the first items."""
        found = list(self.first_items(INSPECTED))
        if not found:
            raise UserError(f"{type(self.dataset).__name__} is empty")
        return found

    def first_items(self, count: int) -> Iterator[Any]:
        return islice(_seeded_items(self.dataset, (self.seed, "first")), count)

    def first_rows(self, form: ItemFormat, count: int) -> Iterator[Rows]:
        items = self.first_items(count)
        while chunk := [form.rows(item) for item in islice(items, CHUNK)]:
            yield {name: stack([item[name] for item in chunk]) for name in chunk[0]}

    def loader(self, form: ItemFormat, iteration: Iteration, rank: int, world: int) -> "StreamLoader":
        """Return the loader of the training batches."""
        return StreamLoader(self, form, iteration, rank, world)


class StreamLoader:
    """Batches of an iterable set; its length is unknown, unless the set has one."""

    def __init__(self, reader: StreamReader, form: ItemFormat, iteration: Iteration, rank: int, world: int) -> None:
        self.epoch = 0
        self.stream = _Stream(reader, form, rank, 1 if reader.sharded else world)
        self.iteration, self.warned = iteration, False
        self.loader: DataLoader[Any] = DataLoader(
            self.stream,
            batch_size=None,
            num_workers=reader.workers,
            pin_memory=torch.cuda.is_available(),
        )

    def __iter__(self) -> Iterator[Rows]:
        if self.epoch == 0 and self.iteration() > 0 and not self.warned:
            log.warning("an iterable set cannot be continued in its middle: this run sees its first images again")
            self.warned = True
        self.stream.epoch, count = self.epoch, 0
        for batch in self.loader:
            count += 1
            yield batch
        self.epoch += 1
        if not count:
            size = self.stream.reader.batch_size * self.stream.world
            raise UserError(f"the set ended after fewer than {size} images, which a batch needs: data.batch_size=")


class _Stream(IterableDataset[Any]):
    """The batches of one process, or of one of its workers."""

    def __init__(self, reader: StreamReader, form: ItemFormat, rank: int, world: int) -> None:
        self.reader, self.form, self.rank, self.world, self.epoch = reader, form, rank, world, 0

    def __iter__(self) -> Iterator[Rows]:
        worker = torch.utils.data.get_worker_info()
        key = (self.reader.seed, "stream", self.epoch, worker.id if worker else 0)
        generator = torch.Generator().manual_seed(derive_seed(*key, "mirrored", self.rank))
        if hasattr(self.reader.dataset, "set_epoch"):
            self.reader.dataset.set_epoch(self.epoch)
        size = self.reader.batch_size
        items = _seeded_items(self.reader.dataset, key)
        while len(group := list(islice(items, size * self.world))) == size * self.world:
            # all processes form the same groups, so that each takes part in the same number of batches
            chosen = [self.form.rows(item) for item in group[self.rank if self.world > 1 else 0 :: self.world]]
            batch = {name: stack([item[name] for item in chosen]) for name in chosen[0]}
            yield {**batch, "mirrored": torch.rand(size, generator=generator) < 0.5}


def _seeded_items(dataset: Iterable[Any], key: tuple[int | str, ...]) -> Iterator[Any]:
    """The items of one pass, whose random numbers follow from the key and the number of the item."""
    with seeded(*key):
        items = iter(dataset)
    number = 0
    while True:
        with seeded(*key, number):
            try:
                item = next(items)
            except StopIteration:
                return
        number += 1
        yield item


class ModuleReader(Streaming):
    """A data module with its own loaders. Shuffling, batch size and worker processes are the module's affair.

    The loader's random numbers are seeded for each epoch by (seed, epoch), so the order does not depend on what else
    draws random numbers. A resumed run reads the batches of its epoch again up to where it was, and leaves them out.

    Several processes: each iterates over all batches and takes every n-th, unless the loader has a
    `DistributedSampler`, which divides the items itself.

    Args:
        module: the LightningDataModule.
        seed: of the order.
        split: the loader whose images stand for the set: train, val or test.
        columns: see `rows_of`.
    """

    def __init__(self, module: Any, seed: int, split: str, columns: Mapping[str, str] | None) -> None:
        self.module, self.seed, self.split, self.columns = module, seed, split, columns

    def inspect(self) -> list[Any]:
        """Return the first batch."""
        return list(islice(self._batches(), 1))

    def first_items(self, count: int) -> Iterator[Any]:
        found = 0
        for batch in self._batches():
            yield batch
            found += len(rows_of(batch, self.columns, batched=True)["image"])
            if found >= count:
                return

    def first_rows(self, form: ItemFormat, count: int) -> Iterator[Rows]:
        return (form.batch(batch) for batch in self.first_items(count))

    def _batches(self) -> Iterator[Any]:
        name = f"{self.split}_dataloader"
        loader = getattr(self.module, name)()
        if loader is None:
            raise UserError(f"{type(self.module).__name__}.{name} returns None; a DataLoader is expected")
        return _seeded_items(loader, (self.seed, "first"))

    def loader(self, iteration: Iteration, rank: int, world: int) -> "ModuleLoader":
        """Return the training loader of the module, with batches as it makes them."""
        loader = self.module.train_dataloader()
        sized = hasattr(loader, "__len__")
        try:
            sized = sized and len(loader) >= 0
        except TypeError:  # a DataLoader of an iterable set
            sized = False
        return (SizedModuleLoader if sized else ModuleLoader)(loader, self.seed, iteration, rank, world)


class ModuleLoader:
    """The batches of a data module's training loader, divided among processes; see `ModuleReader`."""

    def __init__(self, loader: Any, seed: int, iteration: Iteration, rank: int, world: int) -> None:
        self.loader, self.seed, self.iteration = loader, seed, iteration
        self.world = 1 if isinstance(getattr(loader, "sampler", None), DistributedSampler) else world
        self.rank = rank if self.world > 1 else 0
        self.next_epoch = 0

    def __iter__(self) -> Iterator[Any]:
        self.next_epoch += 1
        return self.epoch(self.next_epoch - 1)

    def epoch(self, epoch: int, skipped: int = 0) -> Iterator[Any]:
        """Iterate over this process's batches of an epoch, without the first `skipped` ones."""
        sampler: Any = getattr(self.loader, "sampler", None)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        batches = _seeded_items(self.loader, (self.seed, "epoch", epoch))
        while len(group := list(islice(batches, self.world))) == self.world:
            if skipped:
                skipped -= 1
            else:
                yield group[self.rank]


class SizedModuleLoader(ModuleLoader):
    """A `ModuleLoader` of known length, which continues where a resumed run was."""

    def __init__(self, loader: Any, seed: int, iteration: Iteration, rank: int, world: int) -> None:
        super().__init__(loader, seed, iteration, rank, world)
        self.length = len(loader) // self.world
        if not self.length:
            raise UserError(f"train_dataloader has {len(loader)} batches, which are too few for {world} processes")

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        return self._from(self.iteration())

    def _from(self, first: int) -> Iterator[Any]:
        """As many batches as an epoch has, from an iteration on, across the border of the epoch."""
        epoch, number = divmod(first, self.length)
        yield from islice(self.epoch(epoch, number), self.length - number)
        if number:
            yield from islice(self.epoch(epoch + 1), number)


def label_column(reader: MapReader, form: ItemFormat, targets: Any) -> list[Any]:
    """Return the label of every item: the attribute `targets`, the column of a Hugging Face set, or read from items."""
    if targets is not None:
        return targets.tolist() if hasattr(targets, "tolist") else list(targets)
    names = getattr(reader.dataset, "column_names", None)
    own = (form.options.columns or {}).get("label", "label")
    if isinstance(names, list) and own in names:
        return list(reader.dataset[own])
    raw = _RawLabels(reader, form.options.columns)
    workers = reader.workers if len(raw) > 4 * CHUNK else 0
    loader: DataLoader[Any] = DataLoader(raw, CHUNK, num_workers=workers, collate_fn=list)
    hidden = None if len(raw) > 500 else True  # None: shown in a terminal
    bar = tqdm(loader, "reading labels", unit="batch", leave=False, disable=hidden)
    return [label for labels in bar for label in labels]


class _RawLabels(Dataset[Any]):
    """The labels of a map-style set as its items have them, by number."""

    def __init__(self, reader: MapReader, columns: Mapping[str, str] | None) -> None:
        self.reader, self.columns = reader, columns

    def __len__(self) -> int:
        return len(self.reader.dataset)

    def __getitem__(self, row: int) -> Any:
        return rows_of(self.reader.item(row), self.columns)["label"]

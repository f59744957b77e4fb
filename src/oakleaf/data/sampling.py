"""The order in which images are dealt: a function of (seed, turn) alone, so a resumed run needs no loader's state."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from oakleaf.runtime.seeds import stream

Rows = dict[str, Tensor]


class Deck:
    """Shuffles `count` images anew each epoch and deals them in global batches of `batch`, of which each rank gets its
    own part; the rest that fills no batch waits for the next shuffle.

    again: a few rows [n] of which as many are dealt besides, at the end of each hand: all of them in a shuffled order,
    then all of them in another, and so on (as the code of Salimans 2016, arXiv:1606.03498, repeats its labelled
    images). None for none.
    """

    def __init__(
        self, count: int, batch: int, seed: int, rank: int = 0, world: int = 1, again: Tensor | None = None
    ) -> None:
        self.count, self.batch, self.seed, self.rank, self.world = count, batch, seed, rank, world
        self.batches = count // (batch * world)
        self.again = again

    def hands(self, turn: int, device: torch.device | str = "cpu") -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch's length of hands beginning with the given turn: (rows [batch], whether to mirror each [batch]),
        both of twice the length where some are dealt again. An epoch's hands go to the device at once, so that no turn
        waits for a copy."""
        epoch = None
        for now in range(turn, turn + self.batches):
            if epoch != now // self.batches:
                epoch = now // self.batches
                rows, mirrored = (hands.to(device) for hands in self._epoch(epoch))
            yield rows[now % self.batches], mirrored[now % self.batches]

    def _epoch(self, number: int) -> tuple[Tensor, Tensor]:
        """All hands of an epoch, [batches, batch]."""
        rows, mirrored = self._own(*self.shuffle(self.count, "deck", number))
        if self.again is not None:
            few, sides = self._own(*self._few(self.again, number * self.batches * self.world * self.batch))
            rows, mirrored = torch.cat([rows, few], 1), torch.cat([mirrored, sides], 1)
        return rows, mirrored

    def _own(self, *columns: Tensor) -> list[Tensor]:
        """This rank's part of an epoch that begins each column."""
        hands = self.batches, self.world, self.batch
        return [column[: math.prod(hands)].view(hands)[:, self.rank] for column in columns]

    def _few(self, rows: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """As many of the few rows' endless tilings as an epoch needs or more, beginning with the given place."""
        first, last = start // len(rows), (start + self.batches * self.world * self.batch - 1) // len(rows)
        tilings = [self.shuffle(len(rows), "again", tiling) for tiling in range(first, last + 1)]
        order, mirrored = (torch.cat(column)[start - first * len(rows) :] for column in zip(*tilings))
        return rows[order], mirrored

    def shuffle(self, count: int, what: str, number: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(stream(self.seed, what, number))
        return torch.randperm(count, generator=generator), torch.rand(count, generator=generator) < 0.5


class Resident:
    """Batches gathered on the device where all images lie, as networks read them: channels last, so that a batch is
    whole images copied, and nothing is laid out anew every turn.
    """

    def __init__(self, rows: Rows, deck: Deck, turn: Callable[[], int]) -> None:
        self.rows = {
            name: values.contiguous(memory_format=torch.channels_last) if values.dim() == 4 else values
            for name, values in rows.items()
        }
        self.deck, self.turn = deck, turn

    def __len__(self) -> int:
        return self.deck.batches

    def __iter__(self) -> Iterator[Rows]:
        device = next(iter(self.rows.values())).device
        for rows, mirrored in self.deck.hands(self.turn(), device):  # asked at the first batch: a resumed run knows it
            yield {**{name: _gathered(values, rows) for name, values in self.rows.items()}, "mirrored": mirrored}


def _gathered(values: Tensor, rows: Tensor) -> Tensor:
    if values.dim() != 4:
        return values.index_select(0, rows)
    return values.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)  # in the order of memory: 25 x as fast


class Streamed:
    """The same batches, gathered from the memory-mapped cache by worker processes; on a GPU one is ahead there."""

    def __init__(
        self, rows: Rows, deck: Deck, turn: Callable[[], int], workers: int, device: torch.device | str = "cpu"
    ) -> None:
        self.deck, self.device = deck, torch.device(device)
        self.loader: DataLoader[Any] = DataLoader(
            _Table(rows),
            batch_sampler=_Hands(deck, turn),  # type: ignore[arg-type]
            num_workers=workers,
            pin_memory=self.device.type == "cuda",
            persistent_workers=workers > 0,
            collate_fn=_as_it_is,
        )

    def __len__(self) -> int:
        return self.deck.batches

    def __iter__(self) -> Iterator[Rows]:
        # a generator, so that nothing is fetched before the first batch is asked for
        yield from ahead(self.loader, self.device) if self.device.type == "cuda" else self.loader

    def close(self) -> None:
        """End the workers. The garbage collector would find their queues gone, and wait five seconds for each."""
        if (running := self.loader._iterator) is not None and hasattr(running, "_shutdown_workers"):
            running._shutdown_workers()
        self.loader._iterator = None


def ahead(batches: Iterable[Rows], device: torch.device) -> Iterator[Rows]:
    """Batches on the GPU, each copied while the turn before it is computed, on a stream of its own. They are to lie in
    pinned memory."""
    copying, waiting = torch.cuda.Stream(device), None
    for batch in batches:
        with torch.cuda.stream(copying):
            there = {name: values.to(device, non_blocking=True) for name, values in batch.items()}
        copied = copying.record_event()
        if waiting:
            yield _arrived(*waiting)
        waiting = there, copied
    if waiting:
        yield _arrived(*waiting)


def _arrived(batch: Rows, copied: torch.cuda.Event) -> Rows:
    stream = torch.cuda.current_stream()
    stream.wait_event(copied)
    for values in batch.values():
        values.record_stream(stream)  # so that its memory is not given away before the turn is over
    return batch


class Together:
    """Batches of images, and with each one of inputs, which are dealt on their own: they have no order in common, and
    one epoch of the images is no epoch of theirs.

    inputs: a way to get their loader, told by what turn to begin.
    """

    def __init__(
        self,
        images: Resident | Streamed,
        inputs: Callable[[Callable[[], int]], Resident | Streamed],
        turn: Callable[[], int],
    ) -> None:
        self.images, self.turn, self.next = images, turn, 0
        self.inputs = inputs(lambda: self.next)

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Rows]:
        self.next = self.turn()
        others = iter(self.inputs)
        for batch in self.images:
            try:
                other = next(others)
            except StopIteration:
                others = iter(self.inputs)
                other = next(others)
            self.next += 1
            yield {**batch, "input": other["input"], "input_mirrored": other["mirrored"]}


class _Hands:
    def __init__(self, deck: Deck, turn: Callable[[], int]) -> None:
        self.deck, self.turn = deck, turn

    def __len__(self) -> int:
        return self.deck.batches

    def __iter__(self) -> Iterator[list[tuple[int, bool]]]:
        for rows, mirrored in self.deck.hands(self.turn()):
            yield list(zip(rows.tolist(), mirrored.tolist()))


class _Table(Dataset[Any]):
    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __getitems__(self, hand: list[tuple[int, bool]]) -> Rows:
        rows, mirrored = torch.tensor([row for row, _ in hand]), torch.tensor([mirror for _, mirror in hand])
        return {**{name: values[rows] for name, values in self.rows.items()}, "mirrored": mirrored}


def _as_it_is(batch: Any) -> Any:
    return batch

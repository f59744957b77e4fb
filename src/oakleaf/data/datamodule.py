"""What all data modules share: rows that are dealt by (seed, turn)."""

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule
from torch import Tensor

from oakleaf.data.sampling import EpochSampler, Rows
from oakleaf.errors import UserError

log = logging.getLogger(__name__)


class ImageDataModule(LightningDataModule, ABC):
    """Rows by name, all of one length: `image` [N, C, H, W] as stored, `label` [N], ...; filled by `setup`.

    size: (H, W) and channels: C of a batch's `image`. keys: its other rows. classes: what the numbers in `label` (or
    the columns of `attributes`) are called. input_channels: C of a batch's `input`, from which a translator makes the
    image; 0 if there is none. mirrors: whether training mirrors images by chance. pairs: whether an input and the image
    of its number belong together.
    """

    size: tuple[int, int]
    channels: int
    cache: Path
    input_channels: int = 0
    mirrors: bool = False
    pairs: bool = True
    keys: Sequence[str] = ()
    classes: Sequence[str] = ()

    def __init__(self, name: str, batch_size: int, epochs: int, seed: int) -> None:
        super().__init__()
        self.name, self.batch_size, self.epochs, self.seed = name, batch_size, epochs, seed
        self.rows: Rows = {}

    @property
    @abstractmethod
    def digest(self) -> str:
        """What tells these rows from all others: their content, and how it was brought to size."""

    @property
    def hash(self) -> str:
        """Sixteen digits of the digest."""
        return hashlib.blake2b(self.digest.encode(), digest_size=8).hexdigest()

    @property
    def resize_protocol(self) -> dict[str, str | int]:
        """How pictures were brought to size, if they were."""
        return {}

    @abstractmethod
    def stored(self, images: Tensor) -> Tensor:
        """Generated images [B, C, H, W] in [-1, 1] in the form in which real ones are stored, on the CPU: measures see
        both alike."""

    def batch(self, rows: Tensor) -> Rows:
        """Those rows as a batch: what a game sees of them, but as they are, without any chance."""
        return {name: values[rows] for name, values in self.rows.items()}

    def check_declared(self, classes: int | None, input_channels: int | None) -> None:
        """Raises:
        UserError: another number of classes, or of the inputs' channels, is wanted than there are.
        """
        if input_channels is not None and input_channels != self.input_channels:
            raise UserError(f"data.input_channels={input_channels}: data={self.name} has {self.input_channels}")
        if classes is not None and classes != len(self.classes):
            raise UserError(f"data.classes={classes}: data={self.name} has {len(self.classes) or 'no'} classes")

    def sampler(self, rank: int, world: int, oversample: Tensor | None = None) -> EpochSampler:
        """again: rows that are dealt besides (see `EpochSampler`)."""
        count = len(self.rows["image"])
        batch = min(self.batch_size, count // world)
        if batch < 1:
            raise UserError(f"data={self.name}: {count} pictures are too few for {world} processes")
        if batch < self.batch_size and rank == 0:
            log.warning(
                "batches of %d instead of %d: there are no more pictures than %d", batch, self.batch_size, count
            )
        return EpochSampler(count, batch, self.seed, rank, world, oversample)

    def iteration(self) -> int:
        """The run's turn, by which the deck deals."""
        module: Any = self.trainer.lightning_module if self.trainer else None
        return module.iteration if module is not None else 0

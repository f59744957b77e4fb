"""Pictures and the words that are told of them, as a generator of tags sees them: features and word vectors."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from oakleaf.config.types import NonNegativeInt, PositiveInt
from oakleaf.data.captions import Part
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.data.images import Images
from oakleaf.data.sampling import DeviceLoader, Rows
from oakleaf.data.sources import Source
from oakleaf.data.word_vectors import word_vectors
from oakleaf.errors import UserError
from oakleaf.metrics.extractors import Extractor


@dataclass
class Album:
    """Pictures and what is told of them."""

    pixels: Tensor  # [N, 3, H, W] uint8
    features: Tensor  # [N, width]
    words: Tensor  # [N, V], 1 where a word of the training captions is told
    told: Tensor  # [N], how many words are told, known or not
    group: Tensor  # [N], of which pictures are variants


class Tags(ImageDataModule):
    """Batches {image: [B, d, 1, 1], features: [B, width]}: the vector of what is told of a picture, and the picture's
    features.

    target = word: the vector of one word; a picture with several is there once for each (Mirza 2014, arXiv:1411.1784,
    section 4.2). target = caption: the mean of its words' vectors, at length 1.
    source: pictures with captions, as pictures of `pixels` x `pixels`. channels: d, of the words' vectors, which are
    learned from the training captions; words of fewer than `least` training pictures have none. extractor: what makes
    features, prepared with the training pictures alone. width: how many features there are; the mean of the training
    pictures is taken away, and the mean square in each picture is 1: only directions tell pictures apart.
    """

    keys = ("features",)
    size = (1, 1)

    def __init__(
        self,
        name: str,
        source: Callable[..., Source],
        root: str,
        extractor: Extractor,
        width: PositiveInt,
        pixels: PositiveInt = 64,
        least: PositiveInt = 1,
        target: Literal["word", "caption"] = "word",
        size: Literal[1] = 1,
        channels: PositiveInt = 100,
        classes: NonNegativeInt | None = None,
        input_channels: NonNegativeInt | None = None,
        batch_size: PositiveInt = 100,
        epochs: PositiveInt = 1,
        cache: str = "~/.cache/oakleaf",
        seed: int = 0,
    ) -> None:
        super().__init__(name, batch_size, epochs, seed)
        self.source, self.root, self.extractor, self.width = source, root, extractor, width
        self.pixels, self.least, self.target = pixels, least, target
        self.channels, self.cache = channels, Path(cache)
        self.chosen = self._images()
        self.classes = self.chosen.classes
        self.check_declared(classes, input_channels)

    @property
    def digest(self) -> str:
        return repr((self.chosen.digest, self.classes, self.channels, self.least, self.target, self.width))

    def stored(self, images: Tensor) -> Tensor:
        return images.float().cpu()

    def setup(self, stage: str | None = None) -> None:
        device: Any = self.trainer.strategy.root_device if self.trainer else "cpu"
        training = self._images(split="train")
        training.setup()
        self.extractor.prepare(training, device)
        self.vectors = self._vectors(training.rows["attributes"])  # [K, d]; of the K most frequent words
        seen = self._seen(training.rows["image"])
        if seen.shape[1] != self.width:
            raise UserError(f"data.width={self.width}: the extractor sees {seen.shape[1]} features in a picture")
        self.mean = seen.mean(0)
        album = self._album(self.chosen)
        words = album.words[:, : len(self.vectors)].float()
        row, word = torch.nonzero(words, as_tuple=True)
        told = self.vectors[word]
        if self.target == "caption":
            row = torch.nonzero(words.sum(1)).flatten()
            told = normalize(words[row] @ self.vectors, dim=1)
        self.rows = {"image": told[:, :, None, None], "features": album.features[row]}

    def _vectors(self, words: Tensor) -> Tensor:
        known = int((words.sum(0, dtype=torch.long) >= self.least).sum())
        if not known:
            raise UserError(f"data.least={self.least}: no word is told of so many training pictures in {self.root}")
        return word_vectors(words[:, :known], self.channels)

    def part(self, split: Part) -> Album:
        """One part of the pictures, seen as the training pictures are."""
        return self._album(self._images(split=split))

    def _album(self, images: Images) -> Album:
        images.setup()
        rows = images.rows
        features = normalize(self._seen(rows["image"]) - self.mean, dim=1) * self.width**0.5
        return Album(rows["image"], features, rows["attributes"], rows["told"], rows["group"])

    def train_dataloader(self) -> Iterable[Rows]:
        trainer = self.trainer
        assert trainer is not None
        rows = {name: values.to(trainer.strategy.root_device) for name, values in self.rows.items()}
        return DeviceLoader(rows, self.sampler(trainer.global_rank, trainer.world_size), self.iteration)

    def on_after_batch_transfer(self, batch: Rows, dataloader_idx: int) -> Rows:
        module = self.trainer.lightning_module if self.trainer else None
        dtype: Any = module.dtype if module else torch.float32
        return {name: batch[name].to(dtype) for name in ("image", "features")}

    def _images(self, **which: Part) -> Images:
        def source(root: Path) -> Source:
            return self.source(root, **which)

        return Images(str(self.name), source, self.root, self.pixels, 3, resample="box", cache=str(self.cache))

    def _seen(self, pixels: Tensor) -> Tensor:
        """[N, width], before they are centred."""
        return torch.cat([self.extractor(piece).features.cpu() for piece in pixels.split(256)])

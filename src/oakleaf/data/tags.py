"""Pictures and the words that are told of them, as a generator of tags sees them: features and word vectors."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oakleaf.data.captions import Part
from oakleaf.data.dealt import Dealt
from oakleaf.data.deck import Resident, Rows
from oakleaf.data.images import Images
from oakleaf.data.sources import Source
from oakleaf.data.words import word_vectors
from oakleaf.errors import Mistake
from oakleaf.metrics.extractors import Extractor
from oakleaf.numbers import Count, Natural


@dataclass
class Album:
    """Pictures and what is told of them."""

    pixels: Tensor  # [N, 3, H, W] uint8
    features: Tensor  # [N, width]
    words: Tensor  # [N, V], 1 where a word of the vocabulary is told
    told: Tensor  # [N], how many words are told, known or not
    group: Tensor  # [N], of which pictures are variants


class Tags(Dealt):
    """Batches {image: [B, d, 1, 1], features: [B, width]}: the vector of one word that is told of a picture, and the
    picture's features. A picture with several words is there once for each (Mirza 2014, arXiv:1411.1784, section 4.2).

    source: pictures with captions, as pictures of `pixels` x `pixels`. channels: d, of the words' vectors, which are
    learned from the training captions. extractor: what makes features; where it learns, it learns the training
    pictures' words, from those pictures alone. width: how many features there are; they have mean 0 and variance 1 on
    the training pictures.
    """

    keys = ("features",)
    size = (1, 1)

    def __init__(
        self,
        name: str,
        source: Callable[..., Source],
        root: str,
        extractor: Extractor,
        width: Count,
        pixels: Count = 64,
        size: Count = 1,
        channels: Count = 100,
        classes: Natural | None = None,
        batch_size: Count = 100,
        epochs: Count = 1,
        cache: str = "~/.cache/oakleaf",
        seed: int = 0,
    ) -> None:
        super().__init__(name, batch_size, epochs, seed)
        self.source, self.root, self.extractor, self.width = source, root, extractor, width
        self.pixels, self.channels, self.cache = pixels, channels, Path(cache)
        self.chosen = self._images()
        self.classes = self.chosen.classes
        self.agree(classes)

    @property
    def digest(self) -> str:
        return repr((self.chosen.digest, self.classes, self.channels, self.extractor.protocol()))

    def stored(self, images: Tensor) -> Tensor:
        return images.float().cpu()

    def setup(self, stage: str | None = None) -> None:
        device: Any = self.trainer.strategy.root_device if self.trainer else "cpu"
        training = self._images(split="train")
        training.setup()
        self.extractor.prepare(training, device)
        self.vectors = word_vectors(training.rows["attributes"], self.channels)  # [V, d]
        seen = self._seen(training.rows["image"])
        if seen.shape[1] != self.width:
            raise Mistake(f"data.width={self.width}: the extractor sees {seen.shape[1]} features in a picture")
        self.scale = seen.std(0, correction=0).clamp(min=1e-6), seen.mean(0)
        album = self.album(self.chosen)
        row, word = torch.nonzero(album.words, as_tuple=True)
        self.rows = {"image": self.vectors[word][:, :, None, None], "features": album.features[row]}

    def part(self, split: Part) -> Album:
        """One part of the pictures, seen as the training pictures are."""
        return self.album(self._images(split=split))

    def album(self, images: Images) -> Album:
        images.setup()
        rows, (sd, mean) = images.rows, self.scale
        features = (self._seen(rows["image"]) - mean) / sd
        return Album(rows["image"], features, rows["attributes"], rows["told"], rows["group"])

    def train_dataloader(self) -> Iterable[Rows]:
        trainer = self.trainer
        assert trainer is not None
        rows = {name: values.to(trainer.strategy.root_device) for name, values in self.rows.items()}
        return Resident(rows, self.deck(trainer.global_rank, trainer.world_size), self.turn)

    def on_after_batch_transfer(self, batch: Rows, dataloader_idx: int) -> Rows:
        module = self.trainer.lightning_module if self.trainer else None
        dtype: Any = module.dtype if module else torch.float32
        return {name: batch[name].to(dtype) for name in ("image", "features")}

    def _images(self, **which: Part) -> Images:
        def source(root: Path) -> Source:
            return self.source(root, **which)

        return Images(self.name, source, self.root, self.pixels, 3, resample="box", cache=str(self.cache))

    def _seen(self, pixels: Tensor) -> Tensor:
        """[N, width], before they are scaled."""
        return torch.cat([self.extractor(piece).features.cpu() for piece in pixels.split(256)])

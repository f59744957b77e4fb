"""The data module for tagging: a generator of word vectors that is conditioned on the features of a picture."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from oakleaf.config.types import NonNegativeInt, PositiveInt
from oakleaf.data.captions import Split
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.data.images import Images
from oakleaf.data.sampling import DeviceLoader, Rows
from oakleaf.data.sources import Source
from oakleaf.data.word_vectors import word_vectors
from oakleaf.errors import UserError


@runtime_checkable
class FeatureExtractor(Protocol):
    """What `Tags` needs of an extractor; each of `oakleaf.metrics.extractors` will do."""

    def prepare(self, data: ImageDataModule, device: Any) -> None:
        """Make the extractor ready, with the real images it may learn from and the device that it runs on."""

    def __call__(self, images: Tensor) -> Any:
        """Extract features from images [B, 3, H, W] uint8; the result has them as `features` [B, width]."""


@dataclass
class TaggedImages:
    """The images of one split with their features and words.

    Attributes:
        pixels: [N, 3, H, W] uint8.
        features: [N, width] float32.
        words: [N, V] uint8, 1 where a word of the training captions is in a caption of the image.
        word_count: [N], how many different words the captions have, in the training captions or not.
        group: [N], the number of the group of which the image is a variant.
    """

    pixels: Tensor
    features: Tensor
    words: Tensor
    word_count: Tensor
    group: Tensor


class Tags(ImageDataModule):
    """Batches {image: [B, d, 1, 1], features: [B, width]}: a word vector, and the features of a picture with that word.

    A vector is an "image" of one pixel with d channels. The generator learns the distribution of the word vectors of
    pictures with given features; the words nearest to its samples are the tags. Word vectors, and the extractor where
    it learns from data, are fitted on the training split alone.

    Args:
        name: of the data set.
        source: makes the source of captioned pictures, given the root folder and `split=`; see
            `captions.CaptionWords`.
        root: the folder of the captioned pictures.
        extractor: computes the features of a picture.
        width: the number of features. The mean of the training pictures is subtracted, and each picture's features are
            scaled to mean square 1, so that pictures differ by the direction of their features only.
        pixels: the pictures are resized to this many pixels in each direction for the extractor.
        least: words of fewer training pictures have no vector.
        target: "word": each word of a picture makes a row with its vector. "caption": a picture has one row, with the
            mean of its words' vectors, scaled to length 1.
        size: always 1: a vector is an image of one pixel.
        channels: d, the dimension of the word vectors.
        classes: the expected number of words; null: not checked.
        input_channels: the expected number of channels of the input, which is 0; null: not checked.
        batch_size: rows in a batch of one process.
        epochs: the length of a run, unless it is set otherwise.
        cache: the folder of decoded images and other things that are computed once.
        seed: of the order of the rows.

    Attributes:
        classes: the words of the training captions, the most frequent first.
        vectors: [K, d], the vectors of the K most frequent words; after `setup`.

    Raises:
        UserError: as the source does; or `classes` or `input_channels` differs from what the data have.

    Reference: Mirza 2014, arXiv:1411.1784, section 4.2, for `target` "word".
    """

    keys = ("features",)
    size = (1, 1)

    def __init__(
        self,
        name: str,
        source: Callable[..., Source],
        root: str,
        extractor: FeatureExtractor,
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
        self.captioned = self._images()
        self.classes, self.listed = self.captioned.classes, self.captioned.listed
        self.check_declared(classes, input_channels)

    @property
    def digest(self) -> str:
        return repr((self.captioned.digest, self.classes, self.channels, self.least, self.target, self.width))

    def stored(self, images: Tensor) -> Tensor:
        return images.float().cpu()

    def setup(self, stage: str | None = None) -> None:
        """Compute the word vectors and the features of all pictures.

        Raises:
            UserError: the extractor has another number of features than `width`, or no word is frequent enough.
        """
        device: Any = self.trainer.strategy.root_device if self.trainer else "cpu"
        training = self._images(split="train")
        training.setup()
        self.extractor.prepare(training, device)
        self.vectors = self._word_vectors(training.rows["attributes"])
        features = self._extract(training.rows["image"])
        if features.shape[1] != self.width:
            raise UserError(f"data.width={self.width}: the extractor has {features.shape[1]} features for a picture")
        self.mean = features.mean(0)
        tagged = self._tagged_images(self.captioned)
        words = tagged.words[:, : len(self.vectors)].float()
        row, word = torch.nonzero(words, as_tuple=True)
        target = self.vectors[word]
        if self.target == "caption":
            row = torch.nonzero(words.sum(1)).flatten()
            target = normalize(words[row] @ self.vectors, dim=1)
        self.rows = {"image": target[:, :, None, None], "features": tagged.features[row]}

    def _word_vectors(self, words: Tensor) -> Tensor:
        """The vectors [K, d] of the words of at least `least` pictures, from which words are in which, [N, V]."""
        count = int((words.sum(0, dtype=torch.long) >= self.least).sum())  # words are sorted by frequency
        if not count:
            raise UserError(
                f"data.least={self.least}: no word is in the captions of so many training pictures in {self.root}"
            )
        return word_vectors(words[:, :count], self.channels)

    def part(self, split: Split) -> TaggedImages:
        """Return the pictures of one split, with features as the training pictures have them.

        Args:
            split: "train", "valid", "test" or "all"; after `setup`.
        """
        return self._tagged_images(self._images(split=split))

    def _tagged_images(self, images: Images) -> TaggedImages:
        images.setup()
        rows = images.rows
        features = normalize(self._extract(rows["image"]) - self.mean, dim=1) * self.width**0.5
        return TaggedImages(rows["image"], features, rows["attributes"], rows["word_count"], rows["group"])

    def train_dataloader(self) -> Iterable[Rows]:
        trainer = self.trainer
        assert trainer is not None
        rows = {name: values.to(trainer.strategy.root_device) for name, values in self.rows.items()}
        return DeviceLoader(rows, self.sampler(trainer.global_rank, trainer.world_size), self.iteration)

    def on_after_batch_transfer(self, batch: Rows, dataloader_idx: int) -> Rows:
        """Convert the rows to the precision of the networks."""
        module = self.trainer.lightning_module if self.trainer else None
        dtype: Any = module.dtype if module else torch.float32
        return {name: batch[name].to(dtype) for name in ("image", "features")}

    def _images(self, **split: Split) -> Images:
        """The pictures of `split=`, or of the source's own split without it."""

        def source(root: Path) -> Source:
            return self.source(root, **split)

        return Images(str(self.name), source, self.root, self.pixels, 3, resample="box", cache=str(self.cache))

    def _extract(self, pixels: Tensor) -> Tensor:
        """The features [N, width] of images [N, 3, H, W], on the CPU, not yet centred."""
        return torch.cat([self.extractor(batch).features.cpu() for batch in pixels.split(256)])

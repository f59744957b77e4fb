"""Whether an image shows what its caption says: can a reader of both find the caption among others?"""

from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy

from oakleaf.config.types import PositiveInt
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.data.vocabulary import bag_of_words
from oakleaf.errors import UserError
from oakleaf.image_grid import captioned_grid
from oakleaf.metrics.classifier import Training, kept, reading
from oakleaf.metrics.classifier_targets import Task
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric
from oakleaf.metrics.neighbours import shuffled
from oakleaf.runtime.seeds import derive_seed

AT_ONCE = 256  # images generated together


class Said(Task):
    """Which caption of the batch is an image's. An image has a logit for each word, and its likeness to a caption is
    their mean over the caption's words: the product of the image's features and the mean of the words' embeddings.
    Contrastive, both ways, as in Radford 2021 (CLIP), arXiv:2103.00020, figure 3.
    """

    kind = "captions"

    def __init__(self, y: Tensor) -> None:
        self.y, self.outputs = y, y.shape[1]

    def known(self) -> Tensor:
        return self.y

    def rows(self, count: int) -> Tensor:
        return torch.nonzero(self.y.sum(1) > 0).flatten()

    def pose(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.y[rows].to(x.device)

    def loss(self, logits: Tensor, answer: Tensor) -> Tensor:
        likeness = logits @ answer.T
        twins = same(answer, answer) & ~torch.eye(len(answer), dtype=torch.bool, device=answer.device)
        likeness = likeness.masked_fill(twins, -1e4)  # another image with these words is no wrong answer
        own = torch.arange(len(answer), device=answer.device)
        return (cross_entropy(likeness, own) + cross_entropy(likeness.T, own)) / 2

    def right(self, logits: Tensor, answer: Tensor) -> Tensor:
        return torch.tensor(found(logits.cpu(), answer.cpu(), 50))


class Retrieval(Metric):
    """The share of images whose own caption, among `among` of them, is the most like (Xu 2018 (AttnGAN),
    arXiv:1711.10485, section 4.1, has R-precision among 100, by another reader); chance is 1 / among. The reader learns
    from the real training images alone.

    retrieval: of images generated for training captions; retrieval_held_out: for captions of held-out images all of
    whose words are known, where there are such. The lines beside them are of the real images with these captions; of
    the first kind the reader has learned from most. images: at most so many of each; shown: on the sheet.
    """

    better = {"retrieval": "higher", "retrieval_held_out": "higher"}
    uses_extractor = False
    of_samples = False

    def __init__(
        self,
        among: PositiveInt = 50,
        images: PositiveInt = 1000,
        shown: PositiveInt = 16,
        training: Training | None = None,
    ) -> None:
        self.among, self.images, self.shown, self.training = among, images, shown, training or Training()

    def prepare(self, evaluation: EvaluationData) -> None:
        self.evaluation, data = evaluation, evaluation.data
        if "caption" not in data.rows:
            raise UserError(f"data={data.name} has no captions: data=emoji_captions, data=celeba_captions")
        told = evaluation.module.game.condition
        if told is None or told.key not in ("caption", "sentence"):
            raise UserError("needs a generator that is told captions")
        self.names, self.words = data.classes, len(data.classes)
        y = bag_of_words(data.rows["caption"], self.words)
        pixels, device = data.rows["image"], evaluation.device
        learned = kept(pixels, Said(y), self.training, data.digest, data.cache, device)
        self.reader, self.accuracy, self.hash = learned
        self.real = {"retrieval": data} | ({"retrieval_held_out": evaluation.test} if evaluation.test else {})
        self.asked = {name: self._some(part) for name, part in self.real.items()}

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        """Not of these samples, whose captions nobody knows, but of others."""
        self.drawn = {name: self._drawn(name) for name in self.real}
        return {name: self._share(name, pixels) for name, pixels in self.drawn.items()}

    def baseline(self, evaluation: EvaluationData) -> dict[str, float]:
        return {name: self._share(name, self.real[name].rows["image"][rows]) for name, rows in self.asked.items()}

    def protocol(self) -> dict[str, Any]:
        return {
            "among": self.among,
            "images": {name: len(rows) for name, rows in self.asked.items()},
            "words": self.words,
            "reader": self.hash,
            "reader_accuracy": self.accuracy,
            "calibration": "the real images with these captions",
        }

    def pictures(self, real: ImageSet, fake: ImageSet) -> dict[str, Image.Image]:
        """Real images at the left, generated ones for the same captions at the right; held-out ones come last."""
        pixels, lines = [], []
        for name, rows in self.asked.items():
            first = rows[: self.shown // len(self.asked)]
            here = self.real[name].rows
            pairs = torch.stack([here["image"][first], self.drawn[name][: len(first)]], 1).flatten(0, 1)
            pixels.append(pairs.expand(-1, 3, -1, -1))
            kind = "held out: " if name.endswith("held_out") else ""
            said = [" ".join(self.names[word - 1] for word in row if word) for row in here["caption"][first].tolist()]
            lines += [[f"{kind}{what}{text}"] for text in said for what in ("", "generated: ")]
        return {"captions": captioned_grid(torch.cat(pixels), lines)}

    def _some(self, data: ImageDataModule) -> Tensor:
        """Rows whose captions have words, and none that is unknown."""
        caption = data.rows["caption"]
        rows = torch.nonzero((caption >= 0).all(1) & (caption > 0).any(1)).flatten()
        if len(rows) < self.among:
            raise UserError(f"among={self.among}: only {len(rows)} captions of {data.name} have no unknown words")
        return rows[shuffled(len(rows), min(self.images, len(rows)))]

    def _drawn(self, name: str) -> Tensor:
        """An image for each caption, as stored."""
        module, evaluation = self.evaluation.module, self.evaluation
        assert module.game.condition is not None
        key = module.game.condition.key
        torch.manual_seed(derive_seed(evaluation.seed, name))
        request: Mapping[str, Tensor] = {
            **module.game.sample_inputs(len(self.asked[name])),
            key: self.real[name].rows[key][self.asked[name]],
        }
        pieces = zip(*(values.split(AT_ONCE) for values in request.values()))
        batches = ({name: part.to(module.device) for name, part in zip(request, piece)} for piece in pieces)
        return torch.cat([evaluation.data.stored(module.sample(batch, evaluation.ema)) for batch in batches])

    def _share(self, name: str, pixels: Tensor) -> float:
        y = bag_of_words(self.real[name].rows["caption"][self.asked[name]], self.words)
        return found(reading(self.reader, pixels, self.evaluation.device).cpu(), y, self.among)


def found(logits: Tensor, y: Tensor, among: int) -> float:
    """The share of images, with a logit for each word [N, V], whose own caption's words y [N, V] are liker than those
    of among - 1 other captions, drawn evenly from those that say something else; a tie is no find."""
    likeness = logits @ y.T
    own = likeness.diagonal()
    chance = torch.rand(likeness.shape, generator=torch.Generator().manual_seed(0))
    chance[same(y, y)] = -1.0
    drawn, others = chance.topk(min(among, len(y)) - 1, 1)
    best = likeness.gather(1, others).masked_fill(drawn < 0, -torch.inf).amax(1)
    return float((own > best).double().mean())


def same(a: Tensor, b: Tensor) -> Tensor:
    """Which rows of a [N, V] and b [M, V] are equal: [N, M]."""
    return torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist") < 1e-6

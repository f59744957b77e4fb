"""Whether a generated image shows what its caption says; serves the text-to-image experiments only.

A classifier is trained on real images and captions; the metric counts how often it ranks the caption that an image was
generated for above other captions.
"""

from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy

from oakleaf.config.types import PositiveInt
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.data.vocabulary import bag_of_words
from oakleaf.errors import UserError
from oakleaf.figures.grid import captioned_grid
from oakleaf.frozen.classifier import Training, cached_classifier, predict
from oakleaf.frozen.tasks import Task
from oakleaf.metrics.evaluation_data import BATCH_SIZE, EvaluationData
from oakleaf.metrics.held_out import fitting_rows, held_out_rows
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric
from oakleaf.metrics.neighbours import shuffled
from oakleaf.runtime.seeds import derive_seed
from oakleaf.sampling.truncation import truncated


class CaptionTarget(Task):
    """Predict which caption of the batch belongs to an image.

    The network has one logit for each word. The similarity of an image and a caption is the mean of the image's logits
    over the caption's words: the product of the image's features and the mean of the words' embeddings. The loss is
    contrastive in both directions, as in CLIP.

    Args:
        words: the share of each word in each caption, [N, V].

    Reference: Radford 2021 (CLIP), arXiv:2103.00020, figure 3.
    """

    kind = "captions"

    def __init__(self, words: Tensor) -> None:
        self.words, self.outputs = words, words.shape[1]

    def targets(self) -> Tensor:
        return self.words

    def rows(self, count: int) -> Tensor:
        return torch.nonzero(self.words.sum(1) > 0).flatten()

    def make_batch(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.words[rows].to(x.device)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        similarity = logits @ target.T
        duplicates = equal_rows(target, target) & ~torch.eye(len(target), dtype=torch.bool, device=target.device)
        similarity = similarity.masked_fill(duplicates, -1e4)  # an equal caption of another image is not wrong
        own = torch.arange(len(target), device=target.device)
        return (cross_entropy(similarity, own) + cross_entropy(similarity.T, own)) / 2

    def correct(self, logits: Tensor, target: Tensor) -> Tensor:
        return torch.tensor(retrieval_accuracy(logits.cpu(), target.cpu(), 50))


class Retrieval(Metric):
    """The share of generated images whose own caption is the most similar one of `among` captions.

    - retrieval: for captions of training images that the classifier was not trained on.
    - retrieval_held_out: for captions of test images whose words are all known, if there is a test split.

    Chance is 1 / among. The similarity is that of a classifier trained on two thirds of the real training images and
    their captions (`CaptionTarget`). The baseline is that of the real images with the same captions, which the
    classifier was not trained on.

    It detects images that do not show their caption. It cannot detect missing variety: one good image of each caption
    is enough. R-precision (Xu 2018) has 100 captions and another classifier, so its numbers are not comparable.

    Args:
        among: the number of captions, the right one included.
        images: generate at most this many images of each kind.
        shown: images of each side in the picture.
        training: how the classifier is trained; null: as `Training()`.

    Reference: Xu 2018 (AttnGAN), arXiv:1711.10485, section 4.1.
    """

    better = {"retrieval": "higher", "retrieval_held_out": "higher"}
    uses_extractor = False
    uses_samples = False
    baseline_is = "the real images with these captions, held out of the classifier's training"

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
        if "caption" not in data.columns:
            raise UserError(f"data={data.name} has no captions: data=emoji_captions, data=celeba_captions")
        condition = evaluation.module.game.condition
        if condition is None or condition.key not in ("caption", "sentence"):
            raise UserError("needs a generator that is conditioned on captions")
        self.names, self.word_count = data.classes, len(data.classes)
        task = CaptionTarget(bag_of_words(data.column("caption"), self.word_count))
        arguments = (data.images(), task, self.training, data.digest, data.cache, evaluation.device)
        self.classifier, self.accuracy, self.classifier_hash = cached_classifier(*arguments, fitting_rows(data.count))
        self.data = {"retrieval": data} | ({"retrieval_held_out": evaluation.test} if evaluation.test else {})
        held_out = held_out_rows(data.count)
        candidates = {"retrieval": held_out, "retrieval_held_out": None}
        self.rows = {name: self._choose_rows(part, candidates[name]) for name, part in self.data.items()}

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        """Compute the numbers for images that are generated here, for the chosen captions; `fake` is not used."""
        self.generated = {name: self._generate(name) for name in self.data}
        return {name: self._accuracy(name, pixels) for name, pixels in self.generated.items()}

    def baseline(self, evaluation: EvaluationData) -> dict[str, float]:
        return {name: self._accuracy(name, self.data[name].images(rows)) for name, rows in self.rows.items()}

    def protocol(self) -> dict[str, Any]:
        return {
            "among": self.among,
            "images": {name: len(rows) for name, rows in self.rows.items()},
            "words": self.word_count,
            "classifier": self.classifier_hash,
            "classifier_accuracy": self.accuracy,
        }

    def pictures(self, real: ImageSet, fake: ImageSet) -> dict[str, Image.Image]:
        """Return real images at the left and generated ones for the same captions at the right, test images last."""
        pixels, lines = [], []
        for name, rows in self.rows.items():
            first = rows[: self.shown // len(self.rows)]
            data = self.data[name]
            pairs = torch.stack([data.images(first), self.generated[name][: len(first)]], 1).flatten(0, 1)
            pixels.append(pairs.expand(-1, 3, -1, -1))
            prefix = "held out: " if name.endswith("held_out") else ""
            captions = data.column("caption", first).tolist()
            texts = [" ".join(self.names[word - 1] for word in row if word) for row in captions]
            lines += [[f"{prefix}{kind}{text}"] for text in texts for kind in ("", "generated: ")]
        return {"captions": captioned_grid(torch.cat(pixels), lines)}

    def _choose_rows(self, data: ImageDataModule, candidates: Tensor | None) -> Tensor:
        """Random ones of the candidates (None: all rows) whose captions have only known words, [at most `images`]."""
        caption = data.column("caption")
        rows = torch.nonzero((caption >= 0).all(1) & (caption > 0).any(1)).flatten()
        rows = rows if candidates is None else rows[torch.isin(rows, candidates)]
        if len(rows) < self.among:
            raise UserError(f"among={self.among}: only {len(rows)} captions of {data.name} have no unknown words")
        return rows[shuffled(len(rows), min(self.images, len(rows)))]

    def _generate(self, name: str) -> Tensor:
        """One image for each caption, as stored, [N, C, H, W]."""
        module, rows = self.evaluation.module, self.rows[name]
        assert module.game.condition is not None
        key = module.game.condition.key
        torch.manual_seed(derive_seed(self.evaluation.seed, name))
        drawn = truncated(module.game, module.game.sample_inputs(len(rows)), self.evaluation.truncation)
        inputs = {**drawn, key: self.data[name].column(key, rows)}
        images = []
        for start in range(0, len(rows), BATCH_SIZE):
            batch = {k: values[start : start + BATCH_SIZE].to(module.device) for k, values in inputs.items()}
            images.append(self.evaluation.data.stored(module.sample(batch, self.evaluation.ema)))
        return torch.cat(images)

    def _accuracy(self, name: str, pixels: Tensor) -> float:
        words = bag_of_words(self.data[name].column("caption", self.rows[name]), self.word_count)
        return retrieval_accuracy(predict(self.classifier, pixels, self.evaluation.device).cpu(), words, self.among)


def retrieval_accuracy(logits: Tensor, words: Tensor, among: int) -> float:
    """Compute the share of images that are more similar to their own caption than to all of among - 1 others.

    The others are drawn from the captions that differ from the image's own, by fixed random numbers. A tie counts as an
    error.

    Args:
        logits: one for each word, [N, V].
        words: the share of each word in the image's own caption, [N, V].
        among: the number of captions that compete, the own one included.
    """
    similarity = logits @ words.T
    own = similarity.diagonal()
    priority = torch.rand(similarity.shape, generator=torch.Generator().manual_seed(0))
    priority[equal_rows(words, words)] = -1.0
    drawn, others = priority.topk(min(among, len(words)) - 1, 1)
    best = similarity.gather(1, others).masked_fill(drawn < 0, -torch.inf).amax(1)
    return float((own > best).double().mean())


def equal_rows(a: Tensor, b: Tensor) -> Tensor:
    """Return which rows of a [N, V] and b [M, V] are equal, [N, M] bool."""
    return torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist") < 1e-6

"""Precision and recall of image tags; serves `experiment=emoji_tags` only.

Tags are predicted in three ways: by a generator of word vectors, by the nearest training pictures, and by frequency.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize, pad

from oakleaf.config.types import PositiveInt
from oakleaf.data.tags import TaggedImages, Tags
from oakleaf.errors import UserError
from oakleaf.figures.grid import captioned_grid
from oakleaf.gan import GAN
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric
from oakleaf.runtime.seeds import derive_seed

BATCH_SIZE = 32  # pictures that are tagged at once
Tagger = Callable[[TaggedImages], Tensor]  # scores of all words for each picture, [N, V]


class Tagging(Metric):
    """Precision and recall of the first `count` tags of each test picture.

    The generator's tags: of `samples` generated word vectors each votes for the `closest` words by cosine similarity,
    and the words with the most votes are the tags. For comparison, `_neighbours`: the most frequent words of the k
    training pictures with the most similar features; `_frequency`: the most frequent words of all training pictures.
    Numbers are means over pictures; with `_by_group` they are means over groups of variants of one picture, each
    counted once. The real-data baseline is the highest value that tags of known words can have.

    It detects word vectors that do not fit the picture. It cannot detect missing variety: equal vectors for a picture
    have the same score as different ones with the same votes.

    Args:
        samples: generated vectors for each picture.
        closest: words that each vector votes for.
        neighbours: values of k, of which the one with the best precision + recall on the validation part is used.
        count: tags for each picture.
        shown: test pictures in the picture `tags`.

    Reference: Mirza 2014, arXiv:1411.1784, section 4.2.
    """

    better = {
        f"tags_{number}{by_group}{method}": "higher"
        for method in ("", "_neighbours", "_frequency")
        for by_group in ("", "_by_group")
        for number in ("precision", "recall")
    }
    uses_extractor = False
    uses_samples = False
    baseline_is = "the known words of each picture"

    def __init__(
        self,
        samples: PositiveInt = 100,
        closest: PositiveInt = 20,
        neighbours: Sequence[PositiveInt] = (1, 2, 3, 5, 10, 20, 50),
        count: PositiveInt = 10,
        shown: PositiveInt = 12,
    ) -> None:
        self.votes, self.closest, self.neighbours = samples, closest, list(neighbours)
        self.count, self.shown = count, shown

    def prepare(self, evaluation: EvaluationData) -> None:
        data, module = evaluation.data, evaluation.module
        if not isinstance(data, Tags) or module.game.condition is None:
            raise UserError(f"tags needs data with tags, such as data=emoji_tags, and {data.name} has none")
        self.train, self.valid, self.test = data.part("train"), data.part("valid"), data.part("test")
        self.names, self.condition_key = data.classes, module.game.condition.key
        self.generator_tagger = partial(self._generator_scores, module, data.vectors, evaluation.ema, evaluation.seed)

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        """Compute the numbers for the test pictures; `real` and `fake` are not used."""
        self.best_neighbours = max(self.neighbours, key=self._validation_score)
        taggers: dict[str, Tagger] = {
            "": self.generator_tagger,
            "_neighbours": partial(score_by_neighbours, self.train, self.best_neighbours),
            "_frequency": partial(score_by_frequency, self.train),
        }
        self.predicted = {method: top_tags(tagger(self.test), self.count) for method, tagger in taggers.items()}
        return {
            f"tags_{name}{method}": value
            for method, tags in self.predicted.items()
            for name, value in precision_and_recall(tags, self.test).items()
        }

    def baseline(self, evaluation: EvaluationData) -> dict[str, float]:
        highest = precision_and_recall(top_tags(self.test.words.float(), self.count), self.test)
        return {f"tags_{name}": value for name, value in highest.items()}

    def protocol(self) -> dict[str, Any]:
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        return {
            "tags": self.count,
            "samples": self.votes,
            "closest": self.closest,
            "neighbours": self.best_neighbours,
            "words": len(self.names),
            "parts": {
                name: [len(p.word_count), len(p.group.unique())] for name, p in parts.items()
            },  # pictures, groups
        }

    def pictures(self, real: ImageSet, fake: ImageSet) -> dict[str, Image.Image]:
        """Return test pictures of different groups with their words and tags; correct tags are in capitals."""
        _, group = self.test.group.unique(return_inverse=True)
        firsts = torch.tensor([int((group == i).nonzero()[0]) for i in range(int(group.max()) + 1)])
        rows = firsts[torch.linspace(0, len(firsts) - 1, min(self.shown, len(firsts))).long()]
        lines = [self._lines(row) for row in rows.tolist()]
        return {"tags": captioned_grid(self.test.pixels[rows], lines)}

    def _lines(self, row: int) -> list[str]:
        """The words and the predicted tags of one test picture."""
        has_word = self.test.words[row]
        unknown = int(self.test.word_count[row] - has_word.sum())
        words = [self.names[i] for i in has_word.nonzero().flatten()] + [f"({unknown} unknown)"] * (unknown > 0)
        tags = [self.names[i].upper() if has_word[i] else self.names[i] for i in self.predicted[""][row].tolist()]
        return ["words: " + ", ".join(words), "tags: " + ", ".join(tags)]

    def _validation_score(self, k: int) -> float:
        """Precision + recall of k neighbours on the validation part."""
        scores = score_by_neighbours(self.train, k, self.valid)
        numbers = precision_and_recall(top_tags(scores, self.count), self.valid)
        return numbers["precision"] + numbers["recall"]

    def _generator_scores(self, module: GAN, vectors: Tensor, ema: bool, seed: int, pictures: TaggedImages) -> Tensor:
        """The scores of all words by the generator's votes, [N, V]."""
        torch.manual_seed(derive_seed(seed, "tags"))
        scores = []
        for features in pictures.features.split(BATCH_SIZE):
            batch = module.game.sample_inputs(len(features) * self.votes)
            batch[self.condition_key] = features.repeat_interleave(self.votes, 0)
            samples = module.sample({name: values.to(module.device) for name, values in batch.items()}, ema)
            by_picture = samples.flatten(1).unflatten(0, (-1, self.votes)).cpu()
            scores.append(score_by_votes(by_picture, vectors, self.closest))
        without_vector = pictures.words.shape[1] - len(vectors)  # these words come last
        return pad(torch.cat(scores), (0, without_vector), value=-1.0)


def score_by_votes(samples: Tensor, vectors: Tensor, closest: int) -> Tensor:
    """Count how many sampled vectors have each word among their closest ones by cosine similarity.

    Args:
        samples: [N, S, d], S samples for each picture.
        vectors: of the words, [V, d], of length 1.
        closest: how many words a sample votes for.

    Returns:
        Scores [N, V]: the number of votes; the mean cosine similarity decides ties.
    """
    cosine = normalize(samples, dim=2) @ vectors.T  # [N, S, V]
    words = cosine.topk(min(closest, len(vectors)), 2).indices.flatten(1)
    votes = torch.zeros(len(samples), len(vectors)).scatter_add_(1, words, torch.ones(words.shape))
    return votes + cosine.mean(1) / 4


def score_by_neighbours(train: TaggedImages, k: int, pictures: TaggedImages) -> Tensor:
    """Count how many of the k training pictures with the most similar features (cosine) have each word.

    Args:
        train: the training pictures.
        k: the number of neighbours.
        pictures: the N pictures to tag.

    Returns:
        Scores [N, V]: the count; ties go to the words of the nearer picture, then to the more frequent word.
    """
    similarity = normalize(pictures.features, dim=1) @ normalize(train.features, dim=1).T
    neighbours = similarity.topk(min(k, len(train.group)), 1).indices
    count = torch.zeros(len(pictures.word_count), train.words.shape[1])
    nearness = torch.zeros_like(count)
    for rank, rows in enumerate(neighbours.T):
        words = train.words[rows].float()
        count += words
        nearness = torch.maximum(nearness, words / (rank + 1))
    return count + nearness / 2 + score_by_frequency(train, pictures) * 1e-4


def score_by_frequency(train: TaggedImages, pictures: TaggedImages) -> Tensor:
    """Return the share of training pictures that have each word, the same for each of N pictures, [N, V]."""
    return train.words.float().mean(0).expand(len(pictures.word_count), -1)


def top_tags(scores: Tensor, count: int) -> Tensor:
    """Return the `count` words with the highest scores [N, V] for each picture, best first, [N, count]."""
    return scores.topk(min(count, scores.shape[1]), 1).indices


def precision_and_recall(tags: Tensor, pictures: TaggedImages) -> dict[str, float]:
    """Compute precision and recall of tags, as means over pictures and over groups.

    Args:
        tags: predicted words of each picture [N, count].
        pictures: the pictures with their words.

    Returns:
        precision: correct tags / count. recall: correct tags / words of the picture, unknown ones included. The same
        with `_by_group`: the mean over groups.
    """
    correct = pictures.words.gather(1, tags).sum(1).double()
    numbers = {"precision": correct / tags.shape[1], "recall": correct / pictures.word_count}
    _, group, size = pictures.group.unique(return_inverse=True, return_counts=True)
    share = 1 / (size[group] * len(size))  # of a picture in the mean over groups
    by_group = {f"{name}_by_group": values * share * len(tags) for name, values in numbers.items()}
    return {name: float(values.mean()) for name, values in {**numbers, **by_group}.items()}

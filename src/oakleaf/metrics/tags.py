"""Tags of held-out pictures: by a generator of word vectors, by the nearest training pictures, and by frequency."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize, pad

from oakleaf.config.types import PositiveInt
from oakleaf.data.tags import Album, Tags
from oakleaf.errors import UserError
from oakleaf.gan import GAN
from oakleaf.image_grid import captioned_grid
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Metric
from oakleaf.runtime.seeds import derive_seed

AT_ONCE = 32  # pictures that are tagged together
Tagger = Callable[[Album], Tensor]  # how strongly each word is proposed for each picture, [N, V]


class Tagging(Metric):
    """Precision and recall of the first `count` tags of each held-out picture, at first those of the generator, Mirza
    2014, arXiv:1411.1784, section 4.2: of `samples` vectors for a picture each votes for the `closest` words by cosine,
    and the words with most votes are its tags. Means over pictures, and over groups of variants, each counted as one.

    Beside it: the most common words among the k training pictures with the most similar features; the most
    common words of all. The line beside the generator's numbers is the ceiling: all words that are told and known.

    neighbours: what to choose k from, by precision + recall on the validation part.
    """

    better = {
        f"tags_{number}{per}{who}": "higher"
        for who in ("", "_neighbours", "_frequency")
        for per in ("", "_by_group")
        for number in ("precision", "recall")
    }
    uses_extractor = False
    of_samples = False

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
            raise UserError(f"tags are known of data=emoji_tags and its like alone, not of {data.name}")
        self.train, self.valid, self.test = data.part("train"), data.part("valid"), data.part("test")
        self.names, self.known = data.classes, module.game.condition.key
        self.propose = partial(self._generated, module, data.vectors, evaluation.ema, evaluation.seed)

    def __call__(self, real: ImageSet, fake: ImageSet) -> dict[str, float]:
        """Not of these samples, which are asked for what training pictures show, but of others for held-out ones."""
        self.nearest = max(self.neighbours, key=self._worth)
        taggers: dict[str, Tagger] = {
            "": self.propose,
            "_neighbours": partial(by_neighbours, self.train, self.nearest),
            "_frequency": partial(by_frequency, self.train),
        }
        self.proposed = {who: first(tagger(self.test), self.count) for who, tagger in taggers.items()}
        return {
            f"tags_{name}{who}": value
            for who, tags in self.proposed.items()
            for name, value in scores(tags, self.test).items()
        }

    def baseline(self, evaluation: EvaluationData) -> dict[str, float]:
        ceiling = scores(first(self.test.words.float(), self.count), self.test)
        return {f"tags_{name}": value for name, value in ceiling.items()}

    def protocol(self) -> dict[str, Any]:
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        return {
            "tags": self.count,
            "samples": self.votes,
            "closest": self.closest,
            "neighbours": self.nearest,
            "words": len(self.names),
            "calibration": "the words that are told and known",
            "parts": {name: [len(p.told), len(p.group.unique())] for name, p in parts.items()},  # pictures, groups
        }

    def pictures(self, real: ImageSet, fake: ImageSet) -> dict[str, Image.Image]:
        """Held-out pictures, of different groups, with their tags: in capitals those that are told."""
        _, place = self.test.group.unique(return_inverse=True)
        firsts = torch.tensor([int((place == i).nonzero()[0]) for i in range(int(place.max()) + 1)])
        rows = firsts[torch.linspace(0, len(firsts) - 1, min(self.shown, len(firsts))).long()]
        lines = [self._words(row) for row in rows.tolist()]
        return {"tags": captioned_grid(self.test.pixels[rows], lines)}

    def _words(self, row: int) -> list[str]:
        told = self.test.words[row]
        missing = int(self.test.told[row] - told.sum())
        said = [self.names[i] for i in told.nonzero().flatten()] + [f"({missing} unknown)"] * (missing > 0)
        tags = [self.names[i].upper() if told[i] else self.names[i] for i in self.proposed[""][row].tolist()]
        return ["told: " + ", ".join(said), "tags: " + ", ".join(tags)]

    def _worth(self, k: int) -> float:
        """What k neighbours are worth on the validation part."""
        found = scores(first(by_neighbours(self.train, k, self.valid), self.count), self.valid)
        return found["precision"] + found["recall"]

    def _generated(self, module: GAN, vectors: Tensor, ema: bool, seed: int, album: Album) -> Tensor:
        torch.manual_seed(derive_seed(seed, "tags"))
        proposed = []
        for features in album.features.split(AT_ONCE):
            request = module.game.sample_inputs(len(features) * self.votes)
            request[self.known] = features.repeat_interleave(self.votes, 0)
            samples = module.sample({name: values.to(module.device) for name, values in request.items()}, ema)
            proposed.append(by_votes(samples.flatten(1).unflatten(0, (-1, self.votes)).cpu(), vectors, self.closest))
        unknown = album.words.shape[1] - len(vectors)  # words without a vector, behind the others
        return pad(torch.cat(proposed), (0, unknown), value=-1.0)


def by_votes(samples: Tensor, vectors: Tensor, closest: int) -> Tensor:
    """How many of the samples [N, S, d] have each of the words' vectors [V, d] among their closest by cosine: [N, V].
    Ties: the higher mean cosine. Vectors have length 1."""
    cosine = normalize(samples, dim=2) @ vectors.T  # [N, S, V]
    near = cosine.topk(min(closest, len(vectors)), 2).indices.flatten(1)
    votes = torch.zeros(len(samples), len(vectors)).scatter_add_(1, near, torch.ones(near.shape))
    return votes + cosine.mean(1) / 4


def by_neighbours(train: Album, k: int, album: Album) -> Tensor:
    """How many of the k training pictures with the most similar features (cosine) have each word. Ties: the nearer
    picture's words, then the more frequent word."""
    near = (normalize(album.features, dim=1) @ normalize(train.features, dim=1).T).topk(min(k, len(train.told)), 1)
    votes = torch.zeros(len(album.told), train.words.shape[1])
    nearer = torch.zeros_like(votes)
    for rank, rows in enumerate(near.indices.T):
        words = train.words[rows].float()
        votes += words
        nearer = torch.maximum(nearer, words / (rank + 1))
    return votes + nearer / 2 + by_frequency(train, album) * 1e-4


def by_frequency(train: Album, album: Album) -> Tensor:
    """The share of training pictures that have each word, whatever the picture."""
    return train.words.float().mean(0).expand(len(album.told), -1)


def first(proposed: Tensor, count: int) -> Tensor:
    """The words most strongly proposed [N, V] for each picture, best first: [N, count]."""
    return proposed.topk(min(count, proposed.shape[1]), 1).indices


def scores(tags: Tensor, album: Album) -> dict[str, float]:
    """Means over pictures, and over groups, for tags [N, count]. precision: right ones / count. recall: right ones /
    words told, unknown ones too."""
    right = album.words.gather(1, tags).sum(1).double()
    each = {"precision": right / tags.shape[1], "recall": right / album.told}
    _, place, size = album.group.unique(return_inverse=True, return_counts=True)
    share = 1 / (size[place] * len(size))  # of a picture in the mean over groups
    by_group = {f"{name}_by_group": values * share * len(tags) for name, values in each.items()}
    return {name: float(values.mean()) for name, values in {**each, **by_group}.items()}

"""Pictures with texts, as rows that players can be told."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from oakleaf.config.types import NonNegativeInt
from oakleaf.data.captions import Captions, Part, tokenize
from oakleaf.data.sources import Source
from oakleaf.errors import UserError, first_line


class Captioned(Captions):
    """Captions' pictures with what is said of each, word by word.

    caption [N, L]: which words come one after the other, by number from 1 among the known ones, those of the training
    part; -1 is an unknown one, 0 none. Several captions of a picture are joined. classes: the words.
    sentences: a sentence-transformers model of yours, by name or folder; what it makes of each caption, the mean where
    a picture has several, are the rows sentence [N, d].
    """

    def __init__(
        self,
        root: Path,
        split: Part = "all",
        group: str | None = None,
        fold: NonNegativeInt = 0,
        upscale: bool = False,
        sentences: str | None = None,
    ) -> None:
        super().__init__(root, split, group, fold, upscale)
        set_caption_rows(self, self.captions, sentences)


def set_caption_rows(source: Source, captions: Sequence[Sequence[str]], sentences: str | None) -> None:
    """Give a source the rows `caption`, in the words that are its classes, and `sentence` where there is a model, in
    place of others.

    Raises:
        UserError: a text without a word.
    """
    spoken = [tokenize(" ".join(texts)) for texts in captions]
    if empty := [i for i, words in enumerate(spoken) if not words]:
        raise UserError(f"{source.name(empty[0])}: its caption has no word in it (and {len(empty) - 1} more)")
    source.labels = {"caption": word_indices(spoken, source.classes)}
    if sentences:
        each = sentence_embeddings([text for texts in captions for text in texts], sentences)
        counts = np.array([len(texts) for texts in captions])
        starts = np.cumsum(counts) - counts
        source.labels["sentence"] = np.add.reduceat(each, starts) / counts[:, None].astype(np.float32)


def word_indices(spoken: Sequence[Sequence[str]], words: Sequence[str]) -> np.ndarray:
    """Each text's words by number from 1, -1 for those that are not known, then zeros: [N, L] int64."""
    number = {word: i for i, word in enumerate(words, 1)}
    rows = np.zeros((len(spoken), max(1, *map(len, spoken))), dtype=np.int64)
    for row, text in zip(rows, spoken):
        row[: len(text)] = [number.get(word, -1) for word in text]
    return rows


def bag_of_words(rows: Tensor, count: int) -> Tensor:
    """The share of each of `count` words among a row's known ones, [N, L] -> [N, count]; zeros where there is none."""
    told = torch.zeros(rows.shape[0], count + 1, device=rows.device)  # len() would fix it in an export
    told.scatter_add_(1, rows.clamp(min=0), torch.ones(rows.shape, device=rows.device))
    told = told[:, 1:]
    return told / told.sum(1, keepdim=True).clamp(min=1)


def sentence_embeddings(texts: Sequence[str], model: str) -> np.ndarray:
    """What a sentence-transformers model makes of texts, [N, d] float32.

    Raises:
        UserError: the package or the model is not there.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise UserError(
            f"sentences={model}: sentence-transformers is not installed here; install it, or learn the words along: "
            "model/condition=caption"
        ) from error
    try:
        encoder = SentenceTransformer(str(Path(model).expanduser()) if model.startswith("~") else model)
    except Exception as error:
        reason = first_line(error)
        raise UserError(f"sentences={model}: no such sentence-transformers model is here ({reason})") from error
    return np.asarray(encoder.encode(list(texts), show_progress_bar=False), dtype=np.float32)

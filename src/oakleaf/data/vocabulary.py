"""Texts as numbers: splitting into words, word numbers, bags of words, and embeddings by a sentence encoder."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from oakleaf.errors import UserError, first_line


def tokenize(text: str) -> list[str]:
    """Split a text into lower-case words.

    A word consists of letters and digits; hyphens and apostrophes belong to it when they are inside of it. Accents are
    part of their letter, whether they were typed as one character or as two.

    Example:
        >>> tokenize("A light-skinned man's hat, 2")
        ['a', 'light-skinned', "man's", 'hat', '2']
    """
    text, marks = unicodedata.normalize("NFC", text).lower(), ""
    if not text.isascii():
        marks = "".join(sorted({re.escape(sign) for sign in text if unicodedata.category(sign).startswith("M")}))
    return re.findall(rf"\w[\w{marks}]*(?:[-'\u2019]\w[\w{marks}]*)*", text)


def word_indices(texts: Sequence[Sequence[str]], vocabulary: Sequence[str]) -> np.ndarray:
    """Return the number of each word in the vocabulary.

    Args:
        texts: N texts as lists of words.
        vocabulary: the words with a number, which is their place counted from 1.

    Returns:
        [N, L] int64, L the length of the longest text: word numbers from 1, -1 for words that are not in the
        vocabulary, and 0 as padding at the end.
    """
    number = {word: i for i, word in enumerate(vocabulary, 1)}
    rows = np.zeros((len(texts), max(1, *map(len, texts))), dtype=np.int64)
    for row, words in zip(rows, texts):
        row[: len(words)] = [number.get(word, -1) for word in words]
    return rows


def bag_of_words(rows: Tensor, count: int) -> Tensor:
    """Return how often each word of the vocabulary occurs in each text, as shares that add up to 1.

    Args:
        rows: [N, L] int64, as from `word_indices`.
        count: the size of the vocabulary, V.

    Returns:
        [N, V] float32; zeros for a text without a word of the vocabulary.
    """
    counts = torch.zeros(rows.shape[0], count + 1, device=rows.device)  # len() would be a constant in an exported model
    counts.scatter_add_(1, rows.clamp(min=0), torch.ones(rows.shape, device=rows.device))
    counts = counts[:, 1:]  # without padding and unknown words
    return counts / counts.sum(1, keepdim=True).clamp(min=1)


def sentence_embeddings(texts: Sequence[str], model: str) -> np.ndarray:
    """Embed texts by a pretrained sentence encoder.

    Args:
        texts: N texts.
        model: a model of the package sentence-transformers, by its name or as a local folder.

    Returns:
        [N, d] float32.

    Raises:
        UserError: the package is not installed, or the model cannot be loaded.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise UserError(
            f"sentences={model}: sentence-transformers is not installed here; install it, or train word embeddings "
            "with the model: model/condition=caption"
        ) from error
    try:
        encoder = SentenceTransformer(str(Path(model).expanduser()) if model.startswith("~") else model)
    except Exception as error:
        reason = first_line(error)
        raise UserError(f"sentences={model}: no such sentence-transformers model is here ({reason})") from error
    return np.asarray(encoder.encode(list(texts), show_progress_bar=False), dtype=np.float32)

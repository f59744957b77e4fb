"""Vectors of words, learned from the captions alone."""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def word_vectors(words: Tensor, dim: int) -> Tensor:
    """One vector of length 1 for each of V words, [V, dim], from which of them are in each of N captions, [N, V]: the
    leading right singular vectors of that table, each word's column at first brought to length 1 (latent semantic
    analysis: Deerwester 1990, JASIS 41(6); the product of two columns is the cosine of the words' co-occurrence).

    Words that always occur together have one vector; words that never do are nearly orthogonal. The singular values are
    left out, as tags are read by cosine: with them a few frequent words draw all others to themselves. The same for
    positive pointwise mutual information, which makes strangers of a frequent word's company: see docs/zoo/tagging.md.
    """
    columns = normalize(words.double(), dim=0)
    _, vectors = torch.linalg.eigh(columns.T @ columns)  # ascending
    found = torch.zeros(words.shape[1], dim, dtype=torch.float64)
    leading = vectors.flip(1)[:, :dim]
    found[:, : leading.shape[1]] = leading
    return normalize(found, dim=1).float()

"""Vectors of words, learned from the captions alone."""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def word_vectors(words: Tensor, dim: int) -> Tensor:
    """One vector for each of V words, [V, dim], from which of them are in each of N captions, [N, V]: words that share
    captions are near each other. Rows have the length sqrt(dim), so that coordinates are about 1.

    The leading eigenvectors of the positive pointwise mutual information max(0, log p(v, w) / p(v) p(w)), times the
    roots of their eigenvalues: what skip-gram with negative sampling factorises (Levy & Goldberg 2014, NIPS; the root:
    Levy 2015, TACL 3, section 3.3). A caption of a few words is one context, and a word is in its own context, or
    those that stand alone would have no vector.
    """
    told = words.double()
    together = told.T @ told  # [V, V] captions that have both
    alone = together.sum(1, keepdim=True)
    information = (together * together.sum() / (alone * alone.T)).log().clamp(min=0)
    values, vectors = torch.linalg.eigh(information)
    order = values.abs().argsort(descending=True)[:dim]
    found = torch.zeros(len(information), dim, dtype=torch.float64)
    found[:, : len(order)] = vectors[:, order] * values[order].abs().sqrt()
    return (normalize(found, dim=1) * dim**0.5).float()

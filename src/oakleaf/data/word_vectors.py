"""Word vectors that are computed from the captions of a training set alone."""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def word_vectors(words: Tensor, dim: int) -> Tensor:
    """Compute a vector of length 1 for each word by latent semantic analysis.

    Each column of `words` is divided by its norm, so that the product of two columns is the cosine of the
    co-occurrence of the two words; the vectors are the leading right singular vectors of that table, one row for each
    word, scaled to length 1. Words that always occur together have the same vector, and words that never do have nearly
    orthogonal ones.

    The singular values are left out because tags are compared by cosine: with the values, a few frequent words would be
    the nearest ones of all others. Positive pointwise mutual information in place of the cosine separates a frequent
    word from the words that accompany it; see docs/zoo/tagging.md.

    Args:
        words: [N, V], 1 where word v is in a caption of picture n, else 0.
        dim: of the vectors, d. Coordinates beyond the number of words are 0.

    Returns:
        [V, d] float32.

    Reference: Deerwester 1990, JASIS 41(6).
    """
    columns = normalize(words.double(), dim=0)
    _, eigenvectors = torch.linalg.eigh(columns.T @ columns)  # in ascending order
    vectors = torch.zeros(words.shape[1], dim, dtype=torch.float64)
    leading = eigenvectors.flip(1)[:, :dim]
    vectors[:, : leading.shape[1]] = leading
    return normalize(vectors, dim=1).float()

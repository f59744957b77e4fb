"""The orthogonal regularisation of BigGAN's generator."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from oakleaf.config.types import PositiveInt
from oakleaf.errors import UserError
from oakleaf.losses.terms import Term
from oakleaf.round import Round


class Orthogonal(Term):
    """Make the filters of each layer orthogonal, of any length: the sum over weights W of |W W^T * (1 - I)|^2.

    W has a row for each output; the product with 1 - I is elementwise and leaves out the squared lengths. With spectral
    normalisation it is a function of the weights before that, as in the authors' code, whose strength 1e-4 is a weight
    of 0.5e-4 here. It makes truncated samples of large generators better.

    Args:
        network: the name of the network.
        exclude: patterns of names of parameters that it does not apply to.
        weight, every: as for `Term`.

    Reference: Brock 2018, arXiv:1809.11096, eq. (3).
    """

    def __init__(
        self,
        network: str = "generator",
        exclude: Sequence[str] = ("embedding.*",),
        weight: float = 1e-4,
        every: PositiveInt = 1,
    ) -> None:
        super().__init__(weight, every)
        self.network, self.exclude = network, list(exclude)

    def measure(self, round: Round) -> Tensor:
        if self.network not in round.networks:
            raise UserError(f"network={self.network}: the game has {' and '.join(round.networks)}")
        terms = []
        for name, weight in round.networks[self.network].named_parameters():
            if weight.dim() > 1 and not any(fnmatchcase(name, pattern) for pattern in self.exclude):
                products = weight.flatten(1) @ weight.flatten(1).T
                terms.append((products - products.diagonal().diag()).float().square().sum())
        return torch.stack(terms).sum()

"""A Term: any scalar that a player pays besides the adversarial loss."""

from abc import ABC, abstractmethod

from torch import Tensor

from oakleaf.numbers import Count
from oakleaf.round import Round


class Term(ABC):
    """`weight * measure(round)`, paid on every `every`-th turn and then `every` times as heavy, so that its mean stays
    (lazy regularisation, Karras 2019, arXiv:1912.04958, section 3.1).
    """

    def __init__(self, weight: float = 1.0, every: Count = 1) -> None:
        self.weight, self.every = weight, every

    def __call__(self, round: Round) -> Tensor:
        return self.weight * self.every * self.measure(round)

    def prepare(self, round: Round) -> None:  # noqa: B027, most terms need nothing
        """Called before any verdict of the round is asked for."""

    @abstractmethod
    def measure(self, round: Round) -> Tensor:
        """The scalar, before its weight."""

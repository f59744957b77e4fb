"""Further terms of a player's loss."""

import torch
from torch import Tensor, nn

from oakleaf.config.types import Fraction, PositiveInt
from oakleaf.losses.terms import Term
from oakleaf.round import Round
from oakleaf.runtime import distributed


class MeanFeatures(Term):
    """Penalise the squared distance between the mean features of generated images and a running mean of real ones.

    The features are those of a random convolution that is never trained. The running mean is a state: it is in
    checkpoints, and it is the same in all processes.

    Args:
        channels: channels of the images.
        features: number of features.
        decay: part of the running mean that is kept in each step.
        weight, every: as for `Term`.
    """

    mean: Tensor  # [features]
    latest: Tensor  # [features], of the last step

    def __init__(
        self,
        channels: PositiveInt,
        features: PositiveInt = 8,
        decay: Fraction = 0.9,
        weight: float = 1.0,
        every: PositiveInt = 1,
    ) -> None:
        super().__init__(weight, every)
        self.network = nn.Conv2d(channels, features, 3).requires_grad_(False)
        self.decay = decay
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("latest", torch.zeros(features))

    def measure(self, round: Round) -> Tensor:
        self.latest.copy_(self.features(round.real).detach())
        return (self.features(round.fake) - self.mean).square().mean()

    def features(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the means [features]."""
        return self.network(x).relu().mean((0, 2, 3))  # type: ignore[no-any-return]

    @torch.no_grad()
    def update_state(self) -> None:
        distributed.all_reduce_mean([self.latest])
        self.mean.lerp_(self.latest, 1 - self.decay)


class SpreadW(Term):
    """Penalise a vector w of the generator that does not depend on its latent: -log of the variance over the batch."""

    def measure(self, round: Round) -> Tensor:
        return -(round.extras["w"].var(0).mean() + 1e-8).log()

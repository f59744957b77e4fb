"""Top-k training: the generator learns from its best fakes alone."""

import math

from torch import Tensor

from oakleaf.config.types import PositiveInt, Probability
from oakleaf.losses.objectives import Objective, decision_threshold
from oakleaf.losses.stateful import Stateful
from oakleaf.round import CriticOutput, Round


class TopK(Stateful):
    """Another objective whose generator is trained on the k fakes of a batch that the critic scores highest.

    k falls from the batch size B to `share` times B, which is reached after `images` images: exponentially, as in the
    paper, but in `levels` equal steps of k. The number of steps is small because a compiled training step is compiled
    anew for each k.

    The discriminator is trained on all fakes. If the objective compares real images with fakes, it gets the first k
    real images of the batch.

    Args:
        of: the objective.
        share: nu, the smallest share of the batch.
        images: images after which k has reached it; null: from the beginning.
        levels: the number of steps in which k falls.

    Attributes:
        present: the present share of the batch.

    Reference: Sinha 2020, arXiv:2002.06224, Algorithm 1 and section 3.1.
    """

    def __init__(
        self, of: Objective, share: Probability = 0.5, images: PositiveInt | None = None, levels: PositiveInt = 4
    ) -> None:
        super().__init__()
        self.of, self.share, self.images, self.levels = of, share, images, levels
        self.present = share if images is None else 1.0
        if (probability := getattr(of, "discriminator_probability", None)) is not None:
            self.discriminator_probability = probability

    def share_at(self, images: int) -> float:
        """Return the share of the batch after `images` images."""
        if self.images is None or images >= self.images:
            return self.share
        falling = max(self.share, 1e-6) ** (images / self.images)
        step = (1 - self.share) / self.levels
        return 1 - math.floor((1 - falling) / step + 1e-9) * step if step else 1.0

    def prepare(self, images: int) -> None:
        """Set the present share. The game calls it before each training step."""
        self.present = self.share_at(images)
        if (prepare := getattr(self.of, "prepare", None)) is not None:
            prepare(images)

    def discriminator(self, round: Round) -> Tensor:
        return self.of.discriminator(round)

    def generator(self, round: Round) -> Tensor:
        score = round.on_fake.score
        count = max(1, int(self.present * len(score) + 0.5))
        if count >= len(score):
            return self.of.generator(round)
        return self.of.generator(_Selected(round, score.detach().reshape(len(score), -1).mean(1).topk(count).indices))

    def decision_threshold(self, round: Round) -> Tensor | float:
        return decision_threshold(self.of, round)


class _Selected(Round):
    """A round with some of the fakes, and as many of the real images from the first on.

    Args:
        round: the round of the whole batch.
        rows: which fakes, [k].
    """

    def __init__(self, round: Round, rows: Tensor) -> None:
        count = len(rows)
        batch = {name: values[:count] for name, values in round.batch.items()}
        inputs = {name: values[rows] for name, values in round.fake_inputs.items()}
        super().__init__(round.real[:count], round.fake[rows], round.critic, batch, inputs)
        self.networks, self.frozen, self.whole_batch, self.rows = round.networks, round.frozen, round, rows

    @property
    def on_real(self) -> CriticOutput:
        return _rows(self.whole_batch.on_real, slice(len(self.rows)))

    @property
    def on_fake(self) -> CriticOutput:
        return _rows(self.whole_batch.on_fake, self.rows)


def _rows(output: CriticOutput, rows: Tensor | slice) -> CriticOutput:
    parts = {name: part if part is None else part[rows] for name, part in output._asdict().items()}
    return CriticOutput(**parts)  # type: ignore[arg-type]

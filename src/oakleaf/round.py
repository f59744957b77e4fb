"""A Round: what one play of the game produced. Everything that a player minimises is a function of it."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from oakleaf.errors import Mistake


class Verdict(NamedTuple):
    """What every critic returns."""

    score: Tensor  # [B], or [B, 1, h, w] from a PatchGAN; larger = more real
    classes: Tensor | None = None  # [B, K] logits of classes
    code: Tensor | None = None  # [B, c] parameters of Q(code | x)
    features: Tensor | None = None  # [B, f] an inner layer


Critic = Callable[[Tensor], Verdict]
Rows = Mapping[str, Tensor]
NOTHING: Rows = {}


class Round:
    """Real and fake images [B, C, H, W] in [-1, 1] and the critic that judges them, its condition already bound.

    batch: the rows that the real images came with; asked: the rows that the fake ones were made from.

    A verdict is computed when a loss first asks for it and then kept, so that hinge's generator never pays for
    `on_real` while the relativistic one has it. Plain properties: `functools.cached_property` holds a lock that
    Dynamo cannot enter.

    joint: real and fake images go through the critic as one batch. For a player who needs both, and critics that judge
    each image by itself (`judges_singly`).
    """

    joint = False

    def __init__(
        self, real: Tensor, fake: Tensor, critic: Critic, batch: Rows = NOTHING, asked: Rows = NOTHING
    ) -> None:
        self.real, self.fake, self.critic, self.batch, self.asked = real, fake, critic, batch, asked
        self._on_real: Verdict | None = None
        self._on_fake: Verdict | None = None
        self._slopes: dict[str, Tensor | None] = {}

    @property
    def on_real(self) -> Verdict:
        if self._on_real is None and not self._judged_jointly():
            self._on_real = self._judged("real", self.real)
        return self._on_real  # type: ignore[return-value]

    @property
    def on_fake(self) -> Verdict:
        if self._on_fake is None and not self._judged_jointly():
            self._on_fake = self._judged("fake", self.fake)
        return self._on_fake  # type: ignore[return-value]

    def _judged(self, at: str, x: Tensor) -> Verdict:
        if at not in self._slopes:
            return self.critic(x)
        verdict, self._slopes[at] = sloped(self.critic, x)
        return verdict

    def _judged_jointly(self) -> bool:
        """Unless the slope is wanted on one side alone, whose way back would then lead through both."""
        if not self.joint or len(self._slopes) == 1 or self.real.shape != self.fake.shape:
            return False
        both = torch.cat([self.real, self.fake])
        if self._slopes:
            verdict, slopes = sloped(self.critic, both)
            self._slopes = dict(zip(("real", "fake"), slopes.chunk(2)))
        else:
            verdict = self.critic(both)
        halves = zip(*((None, None) if part is None else part.chunk(2) for part in verdict))
        self._on_real, self._on_fake = (Verdict(*half) for half in halves)
        return True

    def steep(self, at: str) -> None:
        """Before the verdicts are asked for: at = real or fake, where `slope` will be."""
        self._slopes.setdefault(at)

    def slope(self, at: str) -> Tensor | None:
        """The gradient of the scores with respect to the images, itself differentiable; from the verdicts that the
        objective asks for anyway. None: nobody said before them that it would be wanted."""
        if at in self._slopes and self._slopes[at] is None:
            _ = self.on_real if at == "real" else self.on_fake
        return self._slopes.get(at)


def sloped(critic: Critic, x: Tensor) -> tuple[Verdict, Tensor]:
    """The verdict on x [B, C, H, W], and the gradient of each sample's score with respect to the sample, the same
    shape, itself differentiable."""
    if torch.compiler.is_compiling():  # AOTAutograd has no double backward; functorch's transform is traced instead

        def scored(x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            verdict = critic(x)  # of which no part may be None
            return verdict.score.sum(), {name: part for name, part in zip(Verdict._fields, verdict) if part is not None}

        slope, parts = torch.func.grad(scored, has_aux=True)(x.detach())
        return Verdict(**parts), slope
    # not functorch here: it refuses BatchNorm's in-place count of batches
    x = x if x.requires_grad else x.detach().requires_grad_()  # a G that looks ahead pays for its fakes' slopes too
    verdict = critic(x)
    return verdict, torch.autograd.grad(verdict.score.sum(), x, create_graph=True)[0]


def judges_singly(critic: nn.Module) -> bool:
    """Whether no layer lets an image's verdict depend on the others of its batch."""
    return not any(isinstance(layer, _BatchNorm) or getattr(layer, "mixes_images", False) for layer in critic.modules())


class Voyage(Round):
    """A round of a translator that has another for the way back: `there` made the fake of x, and `back` is the other.

    Zhu 2017, arXiv:1703.10593, section 3.
    """

    def __init__(self, real: Tensor, x: Tensor, there: nn.Module, back: nn.Module, critic: Critic) -> None:
        super().__init__(real, there(x), critic)
        self.x, self.there, self.back = x, there, back

    def returned(self) -> Tensor:
        """x, there and back again."""
        return self.back(self.fake)

    def kept(self) -> Tensor:
        """What `there` makes of the real, which is already where it leads."""
        return self.there(self.real)


class Telling(Round):
    """A round whose fakes `generator` made of what it was told, y [B, width]."""

    def __init__(
        self,
        real: Tensor,
        fake: Tensor,
        critic: Critic,
        generator: nn.Module,
        y: Tensor,
        batch: Rows = NOTHING,
        asked: Rows = NOTHING,
    ) -> None:
        super().__init__(real, fake, critic, batch, asked)
        self.generator, self.y = generator, y


class Mismatch(Round):
    """A round with the same real images and, as fakes, real images that were told something else: those of the next
    row. What is said of the real ones is said once. Reed 2016, arXiv:1605.05396, Algorithm 1.
    """

    def __init__(self, round: Round) -> None:
        self.round = round
        others = {name: rows.roll(1, 0) for name, rows in round.batch.items()}
        super().__init__(round.real, round.real.roll(1, 0), round.critic, round.batch, others)

    @property
    def on_real(self) -> Verdict:
        return self.round.on_real

    def steep(self, at: str) -> None:
        self.round.steep(at) if at == "real" else super().steep(at)

    def slope(self, at: str) -> Tensor | None:
        return self.round.slope(at) if at == "real" else super().slope(at)

    def _judged_jointly(self) -> bool:
        return False  # only one of the verdicts is of its own


class Mirror(Round):
    """A round from the other side: real and fake are exchanged, and so is what their scores mean, each as far beyond
    `middle` as it was before it. The verdicts are the round's own.
    """

    def __init__(self, round: Round, middle: float) -> None:
        super().__init__(round.fake, round.real, round.critic, round.asked, round.batch)
        self.round, self.middle = round, middle

    @property
    def on_real(self) -> Verdict:
        return self._reflected(self.round.on_fake)

    @property
    def on_fake(self) -> Verdict:
        return self._reflected(self.round.on_real)

    def _reflected(self, verdict: Verdict) -> Verdict:
        return verdict._replace(score=2 * self.middle - verdict.score)


def needed(part: Tensor | None, name: str, key: str | None = None) -> Tensor:
    """A part of a Verdict.

    Raises:
        Mistake: this critic does not say it.
    """
    if part is None:
        how = f": model.game.discriminator.{key}" if key else ""
        raise Mistake(f"the discriminator gives no {name}, which the loss or one of the players' terms asks for{how}")
    return part

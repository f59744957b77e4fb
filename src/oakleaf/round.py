"""A Round: what one play of the game produced. Everything that a player minimises is a function of it."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from oakleaf.errors import UserError


class CriticOutput(NamedTuple):
    """What every critic returns."""

    score: Tensor  # [B], or [B, 1, h, w] from a PatchGAN; larger = more real
    classes: Tensor | None = None  # [B, K] logits of classes
    code: Tensor | None = None  # [B, c] parameters of Q(code | x)
    features: Tensor | None = None  # [B, f] an inner layer


Critic = Callable[[Tensor], CriticOutput]
Rows = Mapping[str, Tensor]
EMPTY: Rows = {}


class Round:
    """Real and fake images [B, C, H, W] in [-1, 1] and the critic that judges them, its condition already bound.

    batch: the rows that the real images came with; fake_inputs: the rows that the fake ones were made from.

    A verdict is computed when a loss first asks for it and then kept, so that hinge's generator never pays for
    `on_real` while the relativistic one has it. Plain properties: `functools.cached_property` holds a lock that
    Dynamo cannot enter.

    joint: real and fake images go through the critic as one batch. For a player who needs both, and critics that judge
    each image by itself (`judges_singly`).
    """

    batched = False

    def __init__(
        self, real: Tensor, fake: Tensor, critic: Critic, batch: Rows = EMPTY, fake_inputs: Rows = EMPTY
    ) -> None:
        self.real, self.fake, self.critic, self.batch, self.fake_inputs = real, fake, critic, batch, fake_inputs
        self._on_real: CriticOutput | None = None
        self._on_fake: CriticOutput | None = None
        self._input_gradients: dict[str, Tensor | None] = {}

    @property
    def on_real(self) -> CriticOutput:
        if self._on_real is None and not self._run_batched():
            self._on_real = self._run_critic("real", self.real)
        return self._on_real  # type: ignore[return-value]

    @property
    def on_fake(self) -> CriticOutput:
        if self._on_fake is None and not self._run_batched():
            self._on_fake = self._run_critic("fake", self.fake)
        return self._on_fake  # type: ignore[return-value]

    def _run_critic(self, at: str, x: Tensor) -> CriticOutput:
        if at not in self._input_gradients:
            return self.critic(x)
        verdict, self._input_gradients[at] = output_and_input_gradient(self.critic, x)
        return verdict

    def _run_batched(self) -> bool:
        """Unless the slope is wanted on one side alone, whose way back would then lead through both."""
        if not self.batched or len(self._input_gradients) == 1 or self.real.shape != self.fake.shape:
            return False
        both = torch.cat([self.real, self.fake])
        if self._input_gradients:
            verdict, slopes = output_and_input_gradient(self.critic, both)
            self._input_gradients = dict(zip(("real", "fake"), slopes.chunk(2)))
        else:
            verdict = self.critic(both)
        halves = zip(*((None, None) if part is None else part.chunk(2) for part in verdict))
        self._on_real, self._on_fake = (CriticOutput(*half) for half in halves)
        return True

    def retain_input_gradient(self, at: str) -> None:
        """Before the verdicts are fake_inputs for: at = real or fake, where `slope` will be."""
        self._input_gradients.setdefault(at)

    def input_gradient(self, at: str) -> Tensor | None:
        """The gradient of the scores with respect to the images, itself differentiable; from the verdicts that the
        objective asks for anyway. None: nobody said before them that it would be wanted."""
        if at in self._input_gradients and self._input_gradients[at] is None:
            _ = self.on_real if at == "real" else self.on_fake
        return self._input_gradients.get(at)


def output_and_input_gradient(critic: Critic, x: Tensor) -> tuple[CriticOutput, Tensor]:
    """The verdict on x [B, C, H, W], and the gradient of each sample's score with respect to the sample, the same
    shape, itself differentiable."""
    if torch.compiler.is_compiling():  # AOTAutograd has no double backward; functorch's transform is traced instead

        def scored(x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            verdict = critic(x)  # of which no part may be None
            return verdict.score.sum(), {
                name: part for name, part in zip(CriticOutput._fields, verdict) if part is not None
            }

        slope, parts = torch.func.grad(scored, has_aux=True)(x.detach())
        return CriticOutput(**parts), slope
    # not functorch here: it refuses BatchNorm's in-place count of batches
    x = x if x.requires_grad else x.detach().requires_grad_()  # a G that looks ahead pays for its fakes' slopes too
    verdict = critic(x)
    return verdict, torch.autograd.grad(verdict.score.sum(), x, create_graph=True)[0]


def is_per_sample(critic: nn.Module) -> bool:
    """Whether no layer lets an image's verdict depend on the others of its batch."""
    return not any(isinstance(layer, _BatchNorm) or getattr(layer, "mixes_images", False) for layer in critic.modules())


class CycleRound(Round):
    """A round of two generators that translate between two domains in opposite directions.

    The round's fake is G(x). `inverse` is the generator F of the other direction.

    Args:
        real: images y of the target domain, [B, C, H, W] in [-1, 1].
        x: images of the source domain, [B, C', H, W] in [-1, 1].
        generator: G, from x to y.
        inverse: F, from y to x.
        critic: the discriminator of the target domain.

    Reference: Zhu 2017, arXiv:1703.10593, section 3.
    """

    def __init__(self, real: Tensor, x: Tensor, generator: nn.Module, inverse: nn.Module, critic: Critic) -> None:
        super().__init__(real, generator(x), critic)
        self.x, self.generator, self.inverse = x, generator, inverse

    def reconstruction(self) -> Tensor:
        """F(G(x)), [B, C', H, W]; the cycle loss compares it with x (eq. (2))."""
        return self.inverse(self.fake)

    def identity(self) -> Tensor:
        """G(y), [B, C, H, W]; the identity loss compares it with y (section 5.2)."""
        return self.generator(self.real)


class ConditionalRound(Round):
    """A round whose fakes `generator` made of what it was told, y [B, width]."""

    def __init__(
        self,
        real: Tensor,
        fake: Tensor,
        critic: Critic,
        generator: nn.Module,
        y: Tensor,
        batch: Rows = EMPTY,
        fake_inputs: Rows = EMPTY,
    ) -> None:
        super().__init__(real, fake, critic, batch, fake_inputs)
        self.generator, self.y = generator, y


class MismatchedRound(Round):
    """A round with the same real images and, as fakes, real images that were told something else: those of the next
    row. What is said of the real ones is said once. Reed 2016, arXiv:1605.05396, Algorithm 1.
    """

    def __init__(self, round: Round) -> None:
        self.round = round
        others = {name: rows.roll(1, 0) for name, rows in round.batch.items()}
        super().__init__(round.real, round.real.roll(1, 0), round.critic, round.batch, others)

    @property
    def on_real(self) -> CriticOutput:
        return self.round.on_real

    def retain_input_gradient(self, at: str) -> None:
        self.round.retain_input_gradient(at) if at == "real" else super().retain_input_gradient(at)

    def input_gradient(self, at: str) -> Tensor | None:
        return self.round.input_gradient(at) if at == "real" else super().input_gradient(at)

    def _run_batched(self) -> bool:
        return False  # only one of the verdicts is of its own


class EncoderRound(Round):
    """A round from the other side: real and fake are exchanged, and so is what their scores mean, each as far beyond
    `middle` as it was before it. The verdicts are the round's own.
    """

    def __init__(self, round: Round, middle: float) -> None:
        super().__init__(round.fake, round.real, round.critic, round.fake_inputs, round.batch)
        self.round, self.middle = round, middle

    @property
    def on_real(self) -> CriticOutput:
        return self._reflected(self.round.on_fake)

    @property
    def on_fake(self) -> CriticOutput:
        return self._reflected(self.round.on_real)

    def _reflected(self, verdict: CriticOutput) -> CriticOutput:
        return verdict._replace(score=2 * self.middle - verdict.score)


def require(part: Tensor | None, name: str, key: str | None = None) -> Tensor:
    """A part of a CriticOutput.

    Raises:
        UserError: this critic does not say it.
    """
    if part is None:
        how = f": model.game.discriminator.{key}" if key else ""
        raise UserError(f"the discriminator gives no {name}, which the loss or one of the players' terms asks for{how}")
    return part

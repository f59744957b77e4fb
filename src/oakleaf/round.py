"""A Round: the result of running the networks on one batch. All losses are functions of a Round."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from oakleaf.errors import UserError

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class CriticOutput(NamedTuple):
    """The output of a discriminator, encoder-discriminator or other critic.

    Attributes:
        score: logits [B], or [B, 1, h, w] from a PatchGAN; larger means more real.
        classes: class logits [B, K], from a critic with an auxiliary classifier.
        code: parameters [B, c] of Q(code | x), from a critic with InfoGAN's head.
        features: an inner layer [B, f], for feature matching and similar losses.
    """

    score: Tensor
    classes: Tensor | None = None
    code: Tensor | None = None
    features: Tensor | None = None


Critic = Callable[[Tensor], CriticOutput]
Rows = Mapping[str, Tensor]
EMPTY: Rows = {}
NO_NETWORKS: Mapping[str, nn.Module] = {}


class Round:
    """Real images, fake images, and the critic that scores both; a condition is already bound to the critic.

    The critic runs when a loss first reads `on_real` or `on_fake`, and its output is kept. So the hinge loss of the
    generator never runs the critic on real images, and the relativistic one does.

    Joint pass. With `batched = True` the real and the fake images go through the critic as one batch of 2B images,
    which is faster than two batches of B. This is correct only for a critic that scores each image by itself: batch
    normalisation, minibatch discrimination and similar layers would mix real and fake images (see `is_per_sample`). It
    is also skipped where a penalty needs the input gradient of one side only, because the double backward pass would
    then run through both.

    Input gradients. A penalty that needs the gradient of the critic at the real or fake images themselves (R1, R2)
    calls `retain_input_gradient` before the objective reads the outputs. The objective's forward pass then also
    returns that gradient, so the penalty needs no forward pass of its own.

    The outputs are plain properties because `functools.cached_property` holds a lock that TorchDynamo cannot trace.

    Args:
        real: images [B, C, H, W] in [-1, 1].
        fake: images [B, C, H, W] in [-1, 1].
        critic: maps images to a `CriticOutput`.
        batch: the rows of the data that `real` is from.
        fake_inputs: the rows (latents, condition) that `fake` was generated from.

    Attributes:
        frozen: the game's frozen networks by name.
    """

    batched = False
    frozen: Mapping[str, nn.Module] = NO_NETWORKS

    def __init__(
        self, real: Tensor, fake: Tensor, critic: Critic, batch: Rows = EMPTY, fake_inputs: Rows = EMPTY
    ) -> None:
        self.real, self.fake, self.critic, self.batch, self.fake_inputs = real, fake, critic, batch, fake_inputs
        self._on_real: CriticOutput | None = None
        self._on_fake: CriticOutput | None = None
        self._input_gradients: dict[str, Tensor | None] = {}

    @property
    def on_real(self) -> CriticOutput:
        """The critic's output for the real images."""
        if self._on_real is None and not self._run_batched():
            self._on_real = self._run_critic("real", self.real)
        return self._on_real  # type: ignore[return-value]

    @property
    def on_fake(self) -> CriticOutput:
        """The critic's output for the fake images."""
        if self._on_fake is None and not self._run_batched():
            self._on_fake = self._run_critic("fake", self.fake)
        return self._on_fake  # type: ignore[return-value]

    def _run_critic(self, side: str, x: Tensor) -> CriticOutput:
        if side not in self._input_gradients:
            return self.critic(x)
        output, self._input_gradients[side] = output_and_input_gradient(self.critic, x)
        return output

    def _run_batched(self) -> bool:
        """Run the critic once on real and fake images together. Returns False where that is not possible."""
        if not self.batched or len(self._input_gradients) == 1 or self.real.shape != self.fake.shape:
            return False
        both = torch.cat([self.real, self.fake])
        if self._input_gradients:
            output, gradients = output_and_input_gradient(self.critic, both)
            self._input_gradients = dict(zip(("real", "fake"), gradients.chunk(2)))
        else:
            output = self.critic(both)
        halves = zip(*((None, None) if part is None else part.chunk(2) for part in output))
        self._on_real, self._on_fake = (CriticOutput(*half) for half in halves)
        return True

    def retain_input_gradient(self, side: str) -> None:
        """Keep the critic's gradient with respect to the images of one side. Call it before `on_real` or `on_fake`.

        Args:
            side: "real" or "fake".
        """
        self._input_gradients.setdefault(side)

    def input_gradient(self, side: str) -> Tensor | None:
        """Return the gradient of each score with respect to its image, itself differentiable.

        Args:
            side: "real" or "fake".

        Returns:
            A tensor like the images, or None if `retain_input_gradient` was not called for this side in time.
        """
        if side in self._input_gradients and self._input_gradients[side] is None:
            _ = self.on_real if side == "real" else self.on_fake
        return self._input_gradients.get(side)


def output_and_input_gradient(critic: Critic, x: Tensor) -> tuple[CriticOutput, Tensor]:
    """Run the critic and return also the gradient of each score with respect to its image.

    The gradient is differentiable, as a gradient penalty needs. Eagerly it is `torch.autograd.grad` with
    `create_graph=True`. Under `torch.compile` that is not possible, since AOTAutograd has no double backward; there
    `torch.func.grad` is traced instead, whose result is an ordinary forward computation. `torch.func.grad` is not used
    eagerly because it refuses BatchNorm's in-place count of batches.

    Args:
        critic: maps [B, C, H, W] to a `CriticOutput`.
        x: images [B, C, H, W].

    Returns:
        The output, and the gradient [B, C, H, W].
    """
    if torch.compiler.is_compiling():

        def total_score(x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            output = critic(x)  # the auxiliary result may not contain None
            return output.score.sum(), {n: part for n, part in zip(CriticOutput._fields, output) if part is not None}

        gradient, parts = torch.func.grad(total_score, has_aux=True)(x.detach())
        return CriticOutput(**parts), gradient
    # images that already need a gradient keep their graph: an unrolled generator is trained through this penalty, too
    x = x if x.requires_grad else x.detach().requires_grad_()
    output = critic(x)
    return output, torch.autograd.grad(output.score.sum(), x, create_graph=True)[0]


def is_per_sample(critic: nn.Module) -> bool:
    """Whether the critic's output for one image does not depend on the other images of the batch.

    A layer that does depend on them is a BatchNorm or says so by an attribute `mixes_images = True`.
    """
    return not any(
        isinstance(layer, BATCH_NORMS) or getattr(layer, "mixes_images", False) for layer in critic.modules()
    )


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
        """Return F(G(x)), [B, C', H, W]; the cycle loss compares it with x (eq. (2))."""
        return self.inverse(self.fake)

    def identity(self) -> Tensor:
        """Return G(y), [B, C, H, W]; the identity loss compares it with y (section 5.2)."""
        return self.generator(self.real)


class ConditionalRound(Round):
    """A round whose fakes are G(z, y); terms can read the generator and y.

    Args:
        real, fake, critic, batch, fake_inputs: as for `Round`.
        generator: the network that made the fakes.
        y: the encoded condition [B, width].
    """

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
    """A round whose fakes are real images with the wrong condition: each image is paired with the next row's text.

    The outputs for the real images are those of the original round, so the critic runs on them once.

    Args:
        round: the round with matching texts.

    Reference: Reed 2016, arXiv:1605.05396, Algorithm 1 (GAN-CLS).
    """

    def __init__(self, round: Round) -> None:
        self.round = round
        others = {name: rows.roll(1, 0) for name, rows in round.batch.items()}
        super().__init__(round.real, round.real.roll(1, 0), round.critic, round.batch, others)

    @property
    def on_real(self) -> CriticOutput:
        return self.round.on_real

    def retain_input_gradient(self, side: str) -> None:
        self.round.retain_input_gradient(side) if side == "real" else super().retain_input_gradient(side)

    def input_gradient(self, side: str) -> Tensor | None:
        return self.round.input_gradient(side) if side == "real" else super().input_gradient(side)

    def _run_batched(self) -> bool:
        return False  # the outputs for real images belong to the original round


class EncoderRound(Round):
    """A round with real and fake exchanged, so that a generator loss trains the encoder of a bidirectional GAN.

    Each score s becomes `2 * threshold - s`, its reflection about the score that separates real from fake. The critic's
    outputs are those of the original round.

    Args:
        round: the original round.
        threshold: the score at which the critic does not decide.
    """

    def __init__(self, round: Round, threshold: float) -> None:
        super().__init__(round.fake, round.real, round.critic, round.fake_inputs, round.batch)
        self.round, self.threshold = round, threshold

    @property
    def on_real(self) -> CriticOutput:
        return self._reflect(self.round.on_fake)

    @property
    def on_fake(self) -> CriticOutput:
        return self._reflect(self.round.on_real)

    def _reflect(self, output: CriticOutput) -> CriticOutput:
        return output._replace(score=2 * self.threshold - output.score)


def require(part: Tensor | None, name: str, key: str | None = None) -> Tensor:
    """Return a part of a `CriticOutput` that a loss needs.

    Args:
        part: the part, or None if the critic does not have it.
        name: what it is, for the message.
        key: the option of the discriminator that provides it, for the message.

    Raises:
        UserError: the critic does not have it.
    """
    if part is None:
        option = f": set model.game.discriminator.{key}" if key else ""
        raise UserError(f"the discriminator returns no {name}, which the loss or a term needs{option}")
    return part

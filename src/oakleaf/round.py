"""A Round: the result of running the networks on one batch. All losses are functions of a Round."""

from collections.abc import Callable, Mapping
from copy import copy
from typing import Any, NamedTuple

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


class GeneratorOutput(NamedTuple):
    """The output of a generator that returns more than an image.

    Attributes:
        image: images [B, C, H, W] in [-1, 1].
        extras: what terms need besides the image, by name: w of a mapping network, smaller scales, patches, codes.
    """

    image: Tensor
    extras: Mapping[str, Any] = {}


Critic = Callable[[Tensor], "CriticOutput | Tensor"]
Rows = Mapping[str, Tensor]
EMPTY: Rows = {}


def generator_output(output: "GeneratorOutput | Tensor") -> GeneratorOutput:
    """Return what a generator returned as a `GeneratorOutput`; a generator may return a tensor of images alone."""
    return GeneratorOutput(output) if isinstance(output, Tensor) else output


def critic_output(output: "CriticOutput | Tensor") -> CriticOutput:
    """Return what a critic returned as a `CriticOutput`; a critic may return a tensor of scores [B] or [B, 1] alone."""
    if not isinstance(output, Tensor):
        return output
    return CriticOutput(output.squeeze(1) if output.dim() == 2 and output.shape[1] == 1 else output)


class BoundCritic:
    """A critic network as a function of images alone: `bound(x)` is `network(augment(x), condition)`.

    Args:
        network: maps images, and the condition where there is one, to a `CriticOutput` or a tensor of scores.
        condition: the encoded condition [B, ...] of the images; None without one. If x holds several batches one after
            the other (the joint pass), the condition is repeated for each.
        packing: images in a pack; x is then [B / packing, packing * C, H, W], and so is the condition.
        transform: applied to all images before the network, such as a blur; None for none.
        augment: maps images and condition to augmented ones; None for none (`oakleaf.augment`).
    """

    def __init__(
        self,
        network: Callable[..., Any],
        condition: Tensor | None = None,
        packing: int = 1,
        transform: Callable[[Tensor], Tensor] | None = None,
        augment: Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor | None]] | None = None,
    ) -> None:
        self.network, self.condition, self.packing = network, condition, packing
        self.transform, self.augment = transform, augment

    def __call__(self, x: Tensor) -> CriticOutput:
        condition = self.condition
        if condition is not None and len(x) != len(condition):
            condition = condition.repeat(len(x) // len(condition), *[1] * (condition.dim() - 1))
        if self.augment is not None:
            x, condition = self.augmented(x, condition)
        if self.transform is not None:
            x = self.transform(x)
        return critic_output(self.run(x, condition))

    def run(self, x: Tensor, condition: Tensor | None) -> "CriticOutput | Tensor":
        """Run the network on images that are augmented already."""
        return self.network(x) if condition is None else self.network(x, condition)  # type: ignore[no-any-return]

    def augmented(self, x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Augment images, and a condition that is a picture by the same geometry; each image of a pack by itself."""
        assert self.augment is not None
        if self.packing == 1:
            return self.augment(x, condition)
        images, picture = self.augment(self._unpacked(x), condition if condition is None else self._unpacked(condition))
        return self._packed(images), picture if picture is None else self._packed(picture)

    def _unpacked(self, rows: Tensor) -> Tensor:
        return rows.unflatten(1, (self.packing, -1)).flatten(0, 1)

    def _packed(self, rows: Tensor) -> Tensor:
        return rows.unflatten(0, (-1, self.packing)).flatten(1, 2)

    def changed(self, **attributes: Any) -> "BoundCritic":
        """Return a copy with other attributes, such as another network."""
        bound = copy(self)
        for name, value in attributes.items():
            setattr(bound, name, value)
        return bound


class Round:
    """Real images, fake images, and the critic that scores both; a condition is already bound to the critic.

    The critic runs when a loss first reads `on_real` or `on_fake`, and its output is kept. So the hinge loss of the
    generator never runs the critic on real images, and the relativistic one does.

    Joint pass. With `batched = True` the real and the fake images go through the critic as one batch of 2B images,
    which is faster than two batches of B. This is correct only for a critic that scores each image by itself: batch
    normalisation, minibatch discrimination and similar layers would mix real and fake images, so a network has to say
    that it allows it (see `is_per_sample`). It is also skipped where a penalty needs the input gradient of one side
    only, because the double backward pass would then run through both.

    Input gradients. A penalty that needs the gradient of the critic at the real or fake images themselves (R1, R2)
    calls `retain_input_gradient` before the objective reads the outputs. The objective's forward pass then also
    returns that gradient, so the penalty needs no forward pass of its own.

    The outputs are plain properties because `functools.cached_property` holds a lock that TorchDynamo cannot trace.

    Args:
        real: images [B, C, H, W] in [-1, 1].
        fake: images [B, C, H, W] in [-1, 1].
        critic: maps images to a `CriticOutput` or a tensor of scores. A function that is no `BoundCritic` becomes one.
        batch: the rows of the data that `real` is from.
        fake_inputs: the rows (latents, condition) that `fake` was generated from.
        extras: what the generator returned besides the fakes (`GeneratorOutput.extras`).

    Attributes:
        networks: the networks of the players by name; the game sets them.
        frozen: the frozen networks by name; the game sets them.
        generate: generates images from the rows that `fake_inputs` has, as the game does; the game sets it.
    """

    batched = False
    networks: Mapping[str, nn.Module] = {}
    frozen: Mapping[str, nn.Module] = {}
    generate: Callable[[dict[str, Tensor]], Tensor] | None = None

    def __init__(
        self,
        real: Tensor,
        fake: Tensor,
        critic: Critic,
        batch: Rows = EMPTY,
        fake_inputs: Rows = EMPTY,
        extras: Mapping[str, Any] = EMPTY,
    ) -> None:
        self.real, self.fake, self.batch, self.fake_inputs, self.extras = real, fake, batch, fake_inputs, extras
        self.critic = critic  # type: ignore[assignment]  # the setter makes it a BoundCritic
        self._on_real: CriticOutput | None = None
        self._on_fake: CriticOutput | None = None
        self._input_gradients: dict[str, Tensor | None] = {}

    @property
    def critic(self) -> BoundCritic:
        """The critic as a function of images."""
        return self._critic

    @critic.setter
    def critic(self, critic: Critic) -> None:
        self._critic = critic if isinstance(critic, BoundCritic) else BoundCritic(critic)

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

    def scored_by(self, critic: BoundCritic) -> "Round":
        """Return a round of the same images with another critic."""
        other = copy(self)
        other.critic, other._on_real, other._on_fake, other._input_gradients = critic, None, None, {}
        return other

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


def output_and_input_gradient(critic: Callable[[Tensor], CriticOutput], x: Tensor) -> tuple[CriticOutput, Tensor]:
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

    A network has to say so by an attribute `per_sample = True`. It is not per sample all the same if it contains a
    BatchNorm or a layer with the attribute `mixes_images = True`, which some of its options may add.
    """
    return bool(getattr(critic, "per_sample", False)) and not any(
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
        fake, extras = generator_output(generator(x))
        super().__init__(real, fake, critic, extras=extras)
        self.x, self.generator, self.inverse = x, generator, inverse

    def reconstruction(self) -> Tensor:
        """Return F(G(x)), [B, C', H, W]; the cycle loss compares it with x (eq. (2))."""
        return generator_output(self.inverse(self.fake)).image

    def identity(self) -> Tensor:
        """Return G(y), [B, C, H, W]; the identity loss compares it with y (section 5.2)."""
        return generator_output(self.generator(self.real)).image


class ConditionalRound(Round):
    """A round whose fakes are G(z, y); terms can read the generator and y.

    Args:
        real, fake, critic, batch, fake_inputs, extras: as for `Round`.
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
        extras: Mapping[str, Any] = EMPTY,
    ) -> None:
        super().__init__(real, fake, critic, batch, fake_inputs, extras)
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

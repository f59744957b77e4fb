"""Inversion: the latents from which a generator makes given images.

`invert` minimises a distance between G(z) and each image over z, the images of a batch independently. `Distances` is
what it minimises: pixels, layers of frozen networks, identity, and two terms that keep z where the generator was
trained.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from oakleaf.config.types import NonNegativeFloat, PositiveFloat, PositiveInt
from oakleaf.errors import UserError
from oakleaf.losses.recognition import Perceptual, SameIdentity

DRAWS = 10_000  # latents from which mean, standard deviation and range of the prior are estimated
TOGETHER = 128  # images that are generated at once

Generate = Callable[[Tensor, Tensor], Tensor]
"""Images [B, C, H, W] of latents [B, d] for the pictures of these numbers [B], which have conditions of their own."""


class Domain(NamedTuple):
    """Where the latents of a prior are, estimated from draws.

    Attributes:
        mean: of each coordinate [d].
        sd: standard deviation of each coordinate [d].
        low: smallest value of each coordinate [d].
        high: largest value of each coordinate [d].
    """

    mean: Tensor
    sd: Tensor
    low: Tensor
    high: Tensor

    @staticmethod
    def of(latents: Tensor) -> "Domain":
        """Return the domain of drawn latents [N, d]."""
        sd = latents.std(0).clamp(min=1e-6)
        return Domain(latents.mean(0), sd, latents.amin(0), latents.amax(0))

    def clamp(self, z: Tensor) -> Tensor:
        """Return latents [B, d] with each coordinate within the range of the draws."""
        return torch.maximum(torch.minimum(z, self.high), self.low)

    def penalty(self, z: Tensor) -> Tensor:
        """Return (|u|^2 / d - 1)^2 [B], where u is z in units of the prior: 0 at the length that latents have.

        The length of normal latents is sqrt(d) within a few percent, and a generator has seen no others.
        """
        standardised = (z - self.mean) / self.sd
        return (standardised.square().mean(1) - 1).square()


@dataclass
class Distances:
    """What inversion minimises for each image.

    Args:
        pixels: weight of the mean squared difference of values in [-1, 1].
        terms: further distances of an image from its target, with their weights, by name.
        prior: weight of `Domain.penalty`.
        encoder: weight of |z - E(G(z))|^2 / d in units of the prior, if the run has an encoder E (Zhu 2020,
            arXiv:2004.00049, eq. (3), lambda 2).
    """

    pixels: NonNegativeFloat = 1.0
    terms: Mapping[str, Perceptual | SameIdentity] = field(default_factory=dict)
    prior: NonNegativeFloat = 0.0
    encoder: NonNegativeFloat = 0.0

    def __call__(
        self,
        z: Tensor,
        images: Tensor,
        targets: Tensor,
        domain: Domain,
        frozen: Mapping[str, Any],
        encode: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Return the distance of each image from its target, [B].

        Args:
            z: latents [B, d].
            images: G(z), [B, C, H, W].
            targets: of the same shape.
            domain: of the prior.
            frozen: frozen networks by name, which `terms` read.
            encode: the encoder, images to latents.
        """
        total = self.pixels * (images - targets).square().flatten(1).mean(1)
        for name, term in self.terms.items():
            if term.network not in frozen:
                known = ", ".join(frozen) or "none"
                raise UserError(
                    f"mode.distances.terms.{name}.network={term.network}: there is no such frozen network; there are "
                    f"{known}; add one with +model/frozen@mode.frozen.{term.network}=NAME"
                )
            total = total + term.weight * term.distances(frozen[term.network], images, targets)
        if self.prior:
            total = total + self.prior * domain.penalty(z)
        if self.encoder and encode:
            total = total + self.encoder * ((z - encode(images)) / domain.sd).square().mean(1)
        return total


@dataclass
class Adam:
    """Adam with the schedule of StyleGAN2's projector: noise on z that fades, a learning rate that rises and falls.

    Args:
        steps: number of steps.
        lr: largest learning rate, in standard deviations of the prior.
        rise: share of the steps in which the rate rises linearly from 0.
        fall: share of the steps in which the rate falls to 0 along a cosine.
        noise: standard deviation of the noise on z in the first step, in those of the prior.
        quiet: share of the steps after which there is no noise.

    Reference: Karras 2019, arXiv:1912.04958, appendix D; code NVlabs/stylegan2, projector.py.
    """

    steps: PositiveInt = 500
    lr: PositiveFloat = 0.1
    rise: NonNegativeFloat = 0.05
    fall: NonNegativeFloat = 0.25
    noise: NonNegativeFloat = 0.05
    quiet: PositiveFloat = 0.75

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, from 0."""
        share = step / self.steps
        falling = min(1.0, (1 - share) / self.fall) if self.fall else 1.0
        rising = min(1.0, share / self.rise) if self.rise else 1.0
        return self.lr * (0.5 - 0.5 * math.cos(falling * math.pi)) * rising

    def noise_of(self, step: int) -> float:
        """Return the standard deviation of the noise of a step, from 0."""
        return self.noise * max(0.0, 1 - step / self.steps / self.quiet) ** 2

    def minimise(
        self, start: Tensor, domain: Domain, loss: Callable[[Tensor], Tensor], random: list[torch.Generator]
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Minimise the sum of the losses of latents.

        Each latent has its own moments and its own random numbers, so no picture depends on the others of the batch.

        Args:
            start: [B, d].
            domain: of the prior.
            loss: of latents [B, d], [B].
            random: a random generator for each latent.

        Yields:
            For each step the latents without noise [B, d], and their losses [B]; None in steps with noise, where they
            are not computed.
        """
        z = start.clone()
        first, second = torch.zeros_like(z), torch.zeros_like(z)
        for step in range(self.steps):
            noise = torch.stack([torch.randn(z.shape[1], generator=one) for one in random]).to(z)
            sd = self.noise_of(step)
            losses, gradient = _losses_and_gradient(loss, z + sd * domain.sd * noise)
            yield z, None if sd else losses
            gradient = gradient * domain.sd  # Adam in units of the prior
            first.lerp_(gradient, 0.1)
            second.lerp_(gradient.square(), 0.001)
            direction = (first / (1 - 0.9 ** (step + 1))) / ((second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
            z = domain.clamp(z - self.rate(step) * domain.sd * direction)
        yield z, loss_values(loss, z)


@dataclass
class LBFGS:
    """L-BFGS with a line search, for each picture by itself.

    Args:
        steps: number of iterations for a picture.
        history: number of stored differences of gradients.

    Reference: Zhu 2016 (iGAN), arXiv:1609.03552, section 3.1; Liu & Nocedal 1989.
    """

    steps: PositiveInt = 200
    history: PositiveInt = 20

    def minimise(
        self, start: Tensor, domain: Domain, loss: Callable[[Tensor], Tensor], random: list[torch.Generator]
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Minimise the loss of each latent; arguments and results are those of `Adam.minimise`."""
        u = ((start - domain.mean) / domain.sd).detach().requires_grad_()

        def latents() -> Tensor:
            return domain.clamp(domain.mean + u * domain.sd)

        optimizer = torch.optim.LBFGS(
            [u],
            max_iter=1,
            history_size=self.history,
            line_search_fn="strong_wolfe",
            tolerance_grad=1e-12,
            tolerance_change=1e-12,
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            total = loss(latents()).sum()
            (u.grad,) = torch.autograd.grad(total, u)
            return total

        for _ in range(self.steps):
            z = latents().detach()
            value: Any = optimizer.step(closure)  # the loss before the step
            yield z, value.detach()[None]
        z = latents().detach()
        yield z, loss_values(loss, z)


class Inverted(NamedTuple):
    """The result of an inversion.

    Attributes:
        latents: [B, d].
        losses: of the latents [B].
        start: the latents from which the optimisation began [B, d].
    """

    latents: Tensor
    losses: Tensor
    start: Tensor


def invert(
    generate: Generate,
    targets: Tensor,
    start: Tensor,
    domain: Domain,
    distances: Callable[[Tensor, Tensor, Tensor], Tensor],
    method: Adam | LBFGS,
    seeds: list[int],
    progress: Callable[[float], None] = lambda _: None,
) -> Inverted:
    """Find the latents of images, by optimisation from a start; for each image the best latents on the way are kept.

    Args:
        generate: see `Generate`.
        targets: images [B, C, H, W] in [-1, 1].
        start: latents [B, d].
        domain: of the prior.
        distances: of latents, images and targets, [B].
        method: `Adam`, or `LBFGS`.
        seeds: of the noise of each image.
        progress: called after each step with the mean of the smallest losses so far.
    """
    parts = [torch.arange(len(targets))] if isinstance(method, Adam) else list(torch.arange(len(targets)).split(1))
    found, losses = start.clone(), torch.full((len(targets),), math.inf, device=targets.device)
    with torch.enable_grad():
        for rows in parts:
            index = rows.to(targets.device)

            def loss(z: Tensor, index: Tensor = index) -> Tensor:
                return distances(z, generate(z, index), targets[index])

            random = [torch.Generator().manual_seed(seeds[row]) for row in rows.tolist()]
            losses[index] = loss_values(loss, start[index])
            for z, current in method.minimise(start[index], domain, loss, random):
                if current is not None:
                    better = current < losses[index]
                    losses[index] = torch.where(better, current, losses[index])
                    found[index] = torch.where(better[:, None], z, found[index])
                progress(float(losses[index].mean()))
    return Inverted(found.detach(), losses.detach(), start)


def best_of(
    generate: Generate, targets: Tensor, candidates: Tensor, distances: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> Tensor:
    """Return for each target the candidate whose image is nearest, [B, d].

    Args:
        generate, targets, distances: as for `invert`.
        candidates: latents [N, d].
    """
    chosen = []
    with torch.no_grad():
        for number, target in enumerate(targets):
            losses = []
            for part in candidates.split(TOGETHER):
                images = generate(part, torch.full((len(part),), number, device=part.device))
                losses.append(distances(part, images, target.expand(len(part), *target.shape)))
            chosen.append(candidates[torch.cat(losses).argmin()])
    return torch.stack(chosen)


def loss_values(loss: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Return losses [B] of latents without gradients."""
    with torch.no_grad():
        return loss(z)


def _losses_and_gradient(loss: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    z = z.detach().requires_grad_()
    losses = loss(z)
    (gradient,) = torch.autograd.grad(losses.sum(), z)
    return losses.detach(), gradient

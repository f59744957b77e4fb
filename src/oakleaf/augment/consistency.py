"""Consistency regularisation: the critic's score must not depend on a change that keeps the meaning of an image."""

import torch
from torch import Tensor

from oakleaf.augment import pixels, transforms
from oakleaf.augment.augmentation import Augmentation, Pair
from oakleaf.config.types import Fraction, NonNegativeFloat, PositiveInt
from oakleaf.errors import UserError
from oakleaf.losses.terms import Term
from oakleaf.round import BoundCritic, Round


class FlipAndShift(Augmentation):
    """A flip of left and right with probability 1/2, then a shift by whole pixels.

    What enters at a border is the reflected image. It is the change that consistency regularisation uses.

    Args:
        shift: the largest shift, as a share of the height and width.

    Reference: Zhang 2019, arXiv:1910.12027, section 3.2.
    """

    def __init__(self, shift: Fraction = 0.125) -> None:
        super().__init__()
        self.shift = shift

    def augment(self, images: Tensor, condition: Tensor | None) -> Pair:
        count, _, height, width = images.shape
        flip = torch.randint(2, (count,), device=images.device).float()
        sides = [int(self.shift * side) for side in (width, height)]
        shift = torch.stack([torch.randint(-n, n + 1, (count,), device=images.device) for n in sides], 1).float()
        inverse = transforms.blit_inverse(flip, torch.zeros_like(flip), shift)
        if condition is None:
            return pixels.moved(images, inverse), None
        return pixels.moved(images, inverse), pixels.moved(condition, inverse)


class Consistency(Term):
    """The mean squared difference between the critic's scores of an image and of the changed image.

    The changed images are in no other loss, unlike those of an augmentation. A score for each patch is averaged over
    the patches first, as they move with the image.

    Args:
        real: include the real images: consistency regularisation (CR).
        fake: include the fakes as well: balanced consistency regularisation (bCR).
        transform: the change; null: `FlipAndShift`.
        weight, every: as for `Term`. The papers take 10 for each side.

    Reference: Zhang 2019 (CR), arXiv:1910.12027, eq. (2); Zhao 2020 (bCR), arXiv:2002.04724, Algorithm 1.
    """

    def __init__(
        self,
        real: bool = True,
        fake: bool = False,
        transform: Augmentation | None = None,
        weight: float = 10.0,
        every: PositiveInt = 1,
    ) -> None:
        super().__init__(weight, every)
        if not (real or fake):
            raise UserError("the term Consistency needs real=true or fake=true")
        self.real, self.fake, self.transform = real, fake, transform or FlipAndShift()

    def measure(self, round: Round) -> Tensor:
        critic = _after(self.transform, round.critic)
        losses = [_difference(round.on_real.score, critic(round.real).score)] if self.real else []
        losses += [_difference(round.on_fake.score, critic(round.fake).score)] if self.fake else []
        return torch.stack(losses).sum()


class LatentConsistency(Term):
    """The mean squared difference between the critic's scores of fakes from latents near each other.

    It is the critic's part of latent consistency regularisation (zCR). The fakes are generated once more from the same
    conditions and latents z + N(0, sd^2).

    Args:
        sd: standard deviation of the change of z.
        weight, every: as for `Term`.

    Reference: Zhao 2020, arXiv:2002.04724, Algorithm 2. The numbers are those of StudioGAN.
    """

    of_single_images = True

    def __init__(self, sd: NonNegativeFloat = 0.05, weight: float = 20.0, every: PositiveInt = 1) -> None:
        super().__init__(weight, every)
        self.sd = sd

    def measure(self, round: Round) -> Tensor:
        return _difference(round.on_fake.score, round.critic(_regenerated(round, self.sd)).score)


class LatentSensitivity(Term):
    """Minus the mean squared difference between fakes from latents near each other.

    It is the generator's part of latent consistency regularisation (zCR): the generator shall not ignore the change
    that the critic shall ignore.

    Args:
        sd, weight, every: as for `LatentConsistency`.

    Reference: Zhao 2020, arXiv:2002.04724, Algorithm 2. The numbers are those of StudioGAN.
    """

    of_single_images = True

    def __init__(self, sd: NonNegativeFloat = 0.05, weight: float = 0.5, every: PositiveInt = 1) -> None:
        super().__init__(weight, every)
        self.sd = sd

    def measure(self, round: Round) -> Tensor:
        return -(round.fake - _regenerated(round, self.sd)).float().square().mean()


def _after(transform: Augmentation, critic: BoundCritic) -> BoundCritic:
    """Return the critic that sees changed images; its own augmentation comes after the change."""
    own = critic.augment

    def both(images: Tensor, condition: Tensor | None) -> Pair:
        changed = transform(images, condition)
        return changed if own is None else own(*changed)  # type: ignore[no-any-return]

    return critic.changed(augment=both)


def _difference(score: Tensor, other: Tensor) -> Tensor:
    first, second = (x.float().reshape(len(x), -1).mean(1) for x in (score, other))
    return (first - second).square().mean()


def _regenerated(round: Round, sd: float) -> Tensor:
    """Generate the fakes of a round again, from changed latents."""
    if "latent" not in round.fake_inputs or round.generate is None:
        raise UserError("latent consistency needs a generator with latents z, and this model maps images to images")
    latent = round.fake_inputs["latent"]
    return round.generate({**round.fake_inputs, "latent": latent + sd * torch.randn_like(latent)})

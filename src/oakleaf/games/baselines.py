"""Generators that are trained without a discriminator, as baselines for GANs."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from oakleaf.conditioning.condition import Condition
from oakleaf.conditioning.priors import Normal
from oakleaf.errors import UserError
from oakleaf.games.critics import FurtherCritic
from oakleaf.games.game import Batch, Game, Scalars
from oakleaf.losses.loss import Loss
from oakleaf.losses.terms import Term
from oakleaf.networks.density import CodeDensity
from oakleaf.optim.player import Role
from oakleaf.round import CriticOutput, Round, generator_output


class NonAdversarial(Game):
    """A game with one player and no discriminator (`optim.discriminator: null`).

    The player minimises its terms. The objective and the penalties of `loss` are not used, and no augmentation.

    Args:
        loss, terms, condition: as for `Game`; the player must have a term.
    """

    def __init__(
        self, loss: Loss, terms: Mapping[str, Mapping[str, Term]] | None, condition: Condition | None = None
    ) -> None:
        super().__init__(Loss(loss.name, loss.objective), terms, condition)
        (player,) = self.roles
        if not any((terms or {}).values()):
            raise UserError(f"model.game.terms.{player}={{}}: without a discriminator the {player} needs a term")

    def attach(
        self,
        critics: Mapping[str, FurtherCritic] | None = None,
        frozen: Mapping[str, nn.Module] | None = None,
        augment: Any = None,
    ) -> None:
        """Add frozen networks; an augmentation has no critic to stand before.

        Raises:
            UserError: there are further critics.
        """
        if critics:
            raise UserError(f"model.critics: {type(self).__name__} trains without a critic; leave it out")
        super().attach(frozen=frozen)

    def adversarial(self, player: str, round: Round, objective: Any) -> None:
        return None

    @torch.no_grad()
    def diagnostics(self, rounds: list[Round], player: str) -> Scalars:
        """Return the root mean squared error of a value of a reconstruction; images are in [-1, 1]."""
        (round,) = rounds
        return {"reconstruction/rmse": (round.fake - round.real).float().square().mean().sqrt()}


class GeneratorAlone(NonAdversarial):
    """A generator without a discriminator; its latents are N(0, I).

    Args:
        generator: the network.
        latent: number of latent dimensions.
        loss, terms: as for `NonAdversarial`.
    """

    roles: Mapping[str, Role] = {"generator": "generator"}
    diagnosed_role: Role = "generator"

    def __init__(
        self, generator: nn.Module, latent: int, loss: Loss, terms: Mapping[str, Mapping[str, Term]] | None
    ) -> None:
        super().__init__(loss, terms)
        self.generator, self.prior = generator, Normal(latent)

    def sample_inputs(self, count: int, device: torch.device | str = "cpu") -> Batch:
        return {"latent": self.prior(count, device)}


class Likelihood(GeneratorAlone):
    """A generator with a known density; its log-likelihood is the round's score.

    The likelihood is that of real images, which no choice of a discriminator can express (Goodfellow 2014,
    arXiv:1412.6515).

    Args:
        generator: z [B, generator.latent] to images [B, C, H, W]; its method `log_likelihood` maps images to [B], in
            nats.
        loss, terms: as for `NonAdversarial`.
    """

    def __init__(self, generator: nn.Module, loss: Loss, terms: Mapping[str, Mapping[str, Term]] | None = None) -> None:
        super().__init__(generator, generator.latent, loss, terms)  # type: ignore[arg-type]

    def play(self, batch: Batch) -> list[Round]:
        real = batch["image"]
        inputs = self.sample_inputs(len(real), real.device)
        with torch.no_grad():
            fake = self.generate(inputs)
        return [Round(real, fake, self.log_likelihood_output, batch, inputs)]

    def log_likelihood_output(self, x: Tensor) -> CriticOutput:
        """Return the log-likelihood of images as a critic's score."""
        return CriticOutput(self.generator.log_likelihood(x))  # type: ignore[operator]

    def generate(self, batch: Batch) -> Tensor:
        return generator_output(self.generator(batch["latent"])).image

    @torch.no_grad()
    def diagnostics(self, rounds: list[Round], player: str) -> Scalars:
        """Return mean log-likelihoods in nats per image; for the model's own samples it is minus its entropy."""
        (round,) = rounds
        return {"log_likelihood/real": round.on_real.score.mean(), "log_likelihood/fake": round.on_fake.score.mean()}


class Reconstruction(GeneratorAlone):
    """An auto-encoder: the fake of a round is the reconstruction of its real image.

    Args:
        generator: the decoder, codes [B, generator.latent] to images; its method `encode` maps images to rows with the
            code under `latent`.
        loss, terms: as for `NonAdversarial`.
        density: density of the codes, for models whose training does not make them N(0, I); samples are decoded from
            codes that it draws.
    """

    def __init__(
        self,
        generator: nn.Module,
        loss: Loss,
        terms: Mapping[str, Mapping[str, Term]] | None = None,
        density: CodeDensity | None = None,
    ) -> None:
        super().__init__(generator, density.latent if density else generator.latent, loss, terms)  # type: ignore[arg-type]
        self.density = density

    def play(self, batch: Batch) -> list[Round]:
        real = batch["image"]
        code = self.generator.encode(real)  # type: ignore[operator]
        if self.density and self.training:
            self.density.remember(code["latent"])
        return [Round(real, self.generator(code["latent"]), no_critic, batch, code)]

    def reconstruct(self, x: Tensor) -> Tensor:
        """Decode images' codes, or the means of their codes. [B, C, H, W] to the same shape."""
        code = self.generator.encode(x)  # type: ignore[operator]
        return self.generator(code.get("mean", code["latent"]))  # type: ignore[no-any-return]

    def generate(self, batch: Batch) -> Tensor:
        latent = batch["latent"]
        return self.generator(self.density(latent) if self.density else latent)  # type: ignore[no-any-return]


def no_critic(x: Tensor) -> CriticOutput:
    """Stand for the critic of a round that has none.

    Raises:
        UserError: always; a term has asked for its output.
    """
    raise UserError("a term of the generator needs a discriminator, and this game has none")

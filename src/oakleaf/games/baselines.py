"""Games without an adversary: a generator that pays terms alone. The baselines that GANs are held against."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from oakleaf.conditioning.priors import Normal
from oakleaf.errors import UserError
from oakleaf.games.game import Batch, Game, Scalars
from oakleaf.losses.loss import InstanceNoise, Loss
from oakleaf.losses.terms import Term
from oakleaf.networks.density import CodeDensity
from oakleaf.round import CriticOutput, Round


class NonAdversarial(Game):
    """One player, `generator`, and no discriminator (`optim.discriminator: null`): of the `loss` nothing is paid,
    whichever it is, and no noise is put on what nobody judges. Latents are N(0, I), `latent` numbers each.
    """

    diagnostics_player = "generator"

    def __init__(
        self, generator: nn.Module, latent: int, loss: Loss, terms: Mapping[str, Mapping[str, Term]] | None
    ) -> None:
        super().__init__(replace(loss, penalties={}, constraints={}, instance_noise=InstanceNoise()), terms)
        if not self.terms.get("generator"):
            raise UserError(
                "model.game.terms.generator={}: there is no discriminator, so the generator pays terms alone"
            )
        self.generator, self.prior = generator, Normal(latent)

    def adversarial(self, player: str, round: Round) -> None:
        return None

    def sample_inputs(self, count: int, device: torch.device | str = "cpu") -> Batch:
        return {"latent": self.prior(count, device)}

    @abstractmethod
    def diagnostics(self, rounds: list[Round]) -> Scalars:
        """What there is to see without a discriminator."""


class Likelihood(NonAdversarial):
    """A generator whose density is known: its log-likelihood is the round's score, larger = more real. It is paid on
    real images, which no choice of a discriminator brings about (Goodfellow 2014, arXiv:1412.6515).

    generator: z [B, generator.latent] -> images [B, C, H, W]; `log_likelihood`: images -> [B], in nats.
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
        return CriticOutput(self.generator.log_likelihood(x))  # type: ignore[operator]

    def generate(self, batch: Batch) -> Tensor:
        return self.generator(batch["latent"])  # type: ignore[no-any-return]

    @torch.no_grad()
    def diagnostics(self, rounds: list[Round]) -> Scalars:
        """Mean log-likelihoods in nats an image; of its own samples it is minus the model's entropy."""
        (round,) = rounds
        return {"log_likelihood_real": round.on_real.score.mean(), "log_likelihood_fake": round.on_fake.score.mean()}


class Reconstruction(NonAdversarial):
    """An auto-encoder: what it makes of a real image is the round's fake, and nobody judges.

    generator: codes [B, generator.latent] -> images, the decoder; `encode`: images -> rows, the code `latent` among
    them. density: of the codes, where training alone does not bring them to N(0, I); samples are decoded from it.
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
        return [Round(real, self.generator(code["latent"]), _nobody, batch, code)]

    def reconstruct(self, x: Tensor) -> Tensor:
        """What the decoder makes of images [B, C, H, W] from their codes, or their codes' means."""
        code = self.generator.encode(x)  # type: ignore[operator]
        return self.generator(code.get("mean", code["latent"]))  # type: ignore[no-any-return]

    def generate(self, batch: Batch) -> Tensor:
        latent = batch["latent"]
        return self.generator(self.density(latent) if self.density else latent)  # type: ignore[no-any-return]

    @torch.no_grad()
    def diagnostics(self, rounds: list[Round]) -> Scalars:
        """The root of the mean squared error of a value; images are in [-1, 1]."""
        (round,) = rounds
        return {"error": (round.fake - round.real).float().square().mean().sqrt()}


def _nobody(x: Tensor) -> CriticOutput:
    raise UserError("one of the generator's terms asks the discriminator, and this game has none")

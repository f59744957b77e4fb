"""An encoder that is fitted to a frozen generator, so that it inverts it."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from oakleaf.conditioning.condition import Condition
from oakleaf.conditioning.priors import Prior
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.errors import UserError
from oakleaf.frozen import Run
from oakleaf.games.baselines import NonAdversarial, no_critic
from oakleaf.games.critics import FurtherCritic
from oakleaf.games.game import Batch
from oakleaf.losses.loss import Loss
from oakleaf.losses.terms import Term
from oakleaf.networks.layers import height_width
from oakleaf.optim.player import Role
from oakleaf.round import Round


class Inverter(NonAdversarial):
    """A game with one player, `encoder`, and the frozen generator of another run, `model.frozen.generator`.

    The fake of a round is G(E(x)), and its `fake_inputs` are fresh latents of that run's prior, so terms can compare
    images and latents. The encoder minimises its terms; `loss` and an augmentation are not used.

    Args:
        encoder: images to latents.
        loss, terms, condition: as for `Game`; with a condition the generator gets it, and the encoder does not.

    Reference: Zhu 2016 (iGAN), arXiv:1609.03552, section 3.1; Zhu 2020, arXiv:2004.00049, section 3.1.
    """

    roles: Mapping[str, Role] = {"encoder": "encoder"}
    diagnosed_role: Role = "encoder"

    def __init__(
        self,
        encoder: nn.Module,
        loss: Loss,
        terms: Mapping[str, Mapping[str, Term]] | None = None,
        condition: Condition | None = None,
    ) -> None:
        super().__init__(loss, terms, condition)
        self.encoder = encoder

    def attach(
        self,
        critics: Mapping[str, FurtherCritic] | None = None,
        frozen: Mapping[str, nn.Module] | None = None,
        augment: object = None,
    ) -> None:
        """Add frozen networks; an augmentation has no critic to stand before.

        Raises:
            UserError: there are further critics, or no frozen generator with its prior.
        """
        found = (frozen or {}).get("generator")
        if not isinstance(found, Run) or found.role != "generator" or found.prior is None:
            raise UserError("model.frozen.generator: it should be the generator of a run whose model has a prior")
        super().attach(critics, frozen, augment)

    @property
    def frozen_generator(self) -> Run:
        """The generator that the encoder inverts."""
        return self.frozen["generator"]  # type: ignore[no-any-return]

    @property
    def prior(self) -> Prior:
        """The prior of the generator's latents."""
        return self.frozen_generator.prior  # type: ignore[no-any-return]

    def initialize_frozen(self, data: ImageDataModule) -> None:
        """Give the frozen networks their weights.

        Raises:
            UserError: the generator makes images of another shape than the data.
        """
        expected = self.frozen_generator.preprocessing.expected
        made = (expected.channels, *height_width(expected.size or data.size))
        if made != (data.channels, *data.size):
            raise UserError(
                f"model.frozen.generator makes images of {' x '.join(map(str, made))}, and data={data.name} has "
                f"{data.channels} x {data.size[0]} x {data.size[1]}: they "
                "should be the same"
            )
        super().initialize_frozen(data)

    def encode(self, x: Tensor) -> Tensor:
        """Map images [B, C, H, W] to latents [B, d]."""
        return self.encoder(x)  # type: ignore[no-any-return]

    def play(self, batch: Batch) -> list[Round]:
        real = batch["image"]
        rows = {self.condition.key: batch[self.condition.key]} if self.condition else {}
        inputs = {"latent": self.prior(len(real), real.device), **rows}
        fake = self.generate({"latent": self.encode(real), **rows})
        return [Round(real, fake, no_critic, batch, inputs)]

    def generate(self, batch: Batch) -> Tensor:
        y = (self.condition(batch),) if self.condition else ()
        return self.frozen_generator.generate(batch["latent"], *y)

    def sample_inputs(self, count: int, device: torch.device | str = "cpu") -> Batch:
        rows = {self.condition.key: self.condition.sample(count).to(device)} if self.condition else {}
        return {"latent": self.prior(count, device), **rows}

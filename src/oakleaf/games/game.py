"""The base class of all systems: networks, how they are run on a batch, and the losses of each player."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from oakleaf.conditioning.condition import Condition
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.image_grid import from_bytes
from oakleaf.losses.loss import Loss, with_instance_noise
from oakleaf.losses.objectives import decision_threshold, discriminator_probability
from oakleaf.losses.stateful import StatefulObjective
from oakleaf.losses.terms import Term
from oakleaf.round import Round, is_per_sample

Batch = dict[str, Tensor]
Scalars = dict[str, Tensor]


class Game(nn.Module, ABC):
    """A family of GAN systems: the networks, and how a batch becomes Rounds.

    A subclass sets its networks as attributes and implements `play`, `generate` and `sample_inputs`. A player is a
    network; its name is the name of the attribute (`generator`, `discriminator`, `encoder`). The loss is independent of
    the game: any adversarial loss can be combined with any game.

    How the losses of one training step are computed, in three layers:

    1. `player_losses` decides what is active in this iteration (lazy terms, instance noise, diagnostics).
    2. `losses` runs the networks and computes every active loss. It is a function of tensors, so it is what
       `compile=true` turns into one graph.
    3. `play` (of the subclass) runs the networks and returns Rounds; objective and terms are functions of a Round.

    Args:
        loss: the adversarial loss with its penalties and constraints.
        terms: further loss terms, by player and name. They define the system (cycle loss, mutual information, ...).
        condition: what the networks are conditioned on, or None.

    Attributes:
        frozen: networks that no player trains, by name (`model.frozen`).
        diagnostics_player: the player in whose step `diagnostics` are computed.
        compiled: compiled versions of `losses` by player; empty while nothing is compiled.
        batched: whether real and fake images go through the discriminator in one pass; None until it is known.
    """

    diagnostics_player = "discriminator"

    def __init__(
        self,
        loss: Loss,
        terms: Mapping[str, Mapping[str, Term]] | None = None,
        condition: Condition | None = None,
    ) -> None:
        super().__init__()
        self.condition = condition
        self.frozen: Any = nn.ModuleDict()  # set by the builder
        self.loss = loss
        # set as an attribute, so that its buffers are part of the state dict
        self.objective = loss.objective if isinstance(loss.objective, StatefulObjective) else None
        self.terms = {player: dict(named) for player, named in (terms or {}).items()}
        self.compiled: dict[str, Callable[..., Scalars]] = {}
        self.batched: bool | None = None

    @property
    def translates(self) -> bool:
        """Whether the generator maps input images to images (pix2pix, CycleGAN)."""
        return self.condition is not None and self.condition.key == "input"

    @abstractmethod
    def play(self, batch: Batch) -> list[Round]:
        """Run the networks on a batch, with fresh latents.

        Args:
            batch: rows of the data; `image` is [B, C, H, W] in [-1, 1].

        Returns:
            One Round, or several (one for each direction of CycleGAN, one for each level of a pyramid).
        """

    @abstractmethod
    def generate(self, batch: Batch) -> Tensor:
        """Generate images from inputs.

        Args:
            batch: what `sample_inputs` returns: `latent` [B, d], and the condition's rows.

        Returns:
            Images [B, C, H, W] in [-1, 1].
        """

    @abstractmethod
    def sample_inputs(self, count: int, device: torch.device | str = "cpu") -> Batch:
        """Draw inputs for `generate`: latents from the prior, and conditions where the game has one."""

    def initialize_from_data(self, data: ImageDataModule) -> None:
        """Initialise networks from real images, once, before the first iteration of a new run.

        Frozen networks get their weights. A network with an attribute `initialization_images` gets that many images by
        its method `initialize_from`.

        Args:
            data: the training data, after `setup`.
        """
        for network in self.frozen.values():
            network.initialize(data)
        images = data.rows["image"]
        for network in self.children():
            if count := getattr(network, "initialization_images", 0):
                indices = torch.randperm(len(images))[:count]
                network.initialize_from(from_bytes(images[indices.sort().values]))  # type: ignore[operator]

    def forward(self, *arguments: Any) -> tuple[Scalars, Scalars]:
        """Call `player_losses` without compiled graphs.

        `torch.func.functional_call` calls `forward`; unrolled optimisation uses it to compute the losses with other
        weights and differentiates twice, which a compiled graph does not support.
        """
        compiled, self.compiled = self.compiled, {}
        try:
            return self.player_losses(*arguments)
        finally:
            self.compiled = compiled

    def player_losses(
        self, player: str, batch: Batch, step: int, images: int, with_diagnostics: bool = False
    ) -> tuple[Scalars, Scalars]:
        """Compute the weighted losses that a player minimises in this iteration.

        Args:
            player: name of the player.
            batch: rows of the data.
            step: number of this player's step, for terms with `every` > 1.
            images: images seen before this iteration, for the instance noise.
            with_diagnostics: whether to compute `diagnostics` too.

        Returns:
            The losses by name, and the diagnostics by name (empty unless requested and this is `diagnostics_player`).
        """
        active = tuple(name for name, term in self.terms_of(player).items() if step % term.every == 0)
        if self.batched is None and player == "discriminator":
            self.batched = is_per_sample(self.get_submodule(player))
        noise = self.loss.instance_noise.sd_at(images)
        # a tensor: a compiled graph would be made anew for each value of a Python number. `new_full` fills it on the
        # device, while a copy from the host would wait
        sd = batch["image"].new_full((), noise) if noise > 0 else None
        if with_diagnostics and player == self.diagnostics_player:
            rounds = self.build_rounds(player, batch, sd)
            return self.compute_terms(player, rounds, active), self.diagnostics(rounds)
        return (self.compiled.get(player) or self.losses)(player, batch, active, sd), {}

    def losses(self, player: str, batch: Batch, active: tuple[str, ...], noise_sd: Tensor | None) -> Scalars:
        """Run the networks and compute all active losses of a player. `compile=true` compiles this function.

        Args:
            active: names of the terms that are computed in this iteration.
            noise_sd: standard deviation of the instance noise, a tensor []; None for no noise.
        """
        return self.compute_terms(player, self.build_rounds(player, batch, noise_sd), active)

    def build_rounds(self, player: str, batch: Batch, noise_sd: Tensor | None) -> list[Round]:
        """Run the networks and prepare the Rounds for a player's step: joint pass and instance noise."""
        rounds = self.rounds_for(player, self.play(batch))
        for round in rounds:
            round.frozen = self.frozen
            # only the discriminator's losses always need both outputs
            round.batched = player == "discriminator" and bool(self.batched)
        return rounds if noise_sd is None else [with_instance_noise(round, noise_sd) for round in rounds]

    def compute_terms(self, player: str, rounds: list[Round], active: tuple[str, ...]) -> Scalars:
        """Compute the player's side of the objective and its active terms.

        All `prepare` methods run before the critic does, because a penalty can request input gradients only then.
        """
        all_terms = self.terms_of(player)
        terms = {name: all_terms[name] for name in active}
        for term in terms.values():
            for round in rounds:
                term.prepare(round)
        each = [self.adversarial(player, round) for round in rounds]
        adversarial = [loss for loss in each if loss is not None]  # torch.compile cannot trace `:=` in a comprehension
        losses = {"adversarial": self.reduce(adversarial)} if adversarial else {}
        for name, term in terms.items():
            losses[name] = self.reduce([term(round) for round in rounds])
        return losses

    def rounds_for(self, player: str, rounds: list[Round]) -> list[Round]:
        """Change or extend the Rounds for one player, e.g. replace fakes by older ones for the discriminator."""
        return rounds

    def reduce(self, losses: list[Tensor]) -> Tensor:
        """Combine one loss over several Rounds; by default the mean."""
        return _mean(losses)

    def adversarial(self, player: str, round: Round) -> Tensor | None:
        """Return the player's side of the objective; None for a player that minimises terms alone."""
        if player not in ("discriminator", "generator"):
            return None
        return getattr(self.loss.objective, player)(round)  # type: ignore[no-any-return]

    def terms_of(self, player: str) -> Mapping[str, Term]:
        """Return all loss terms of a player besides the objective. For the discriminator, the gradient penalties that
        the loss brings come first."""
        own = self.terms.get(player, {})
        return {**self.loss.penalties, **own} if player == "discriminator" else own

    @torch.no_grad()
    def diagnostics(self, rounds: list[Round]) -> Scalars:
        """Compute what is logged about the discriminator.

        Returns:
            `D(x)` and `D(G(z))`, the mean probabilities, if the objective defines a probability; else `score/real` and
            `score/fake`, the mean outputs. `accuracy/real` and `accuracy/fake`, the shares of images on the right side
            of the objective's threshold. And what a stateful objective adds.
        """
        values: dict[str, list[Tensor]] = {}
        for round in rounds:
            for name, value in self._round_diagnostics(round).items():
                values.setdefault(name, []).append(value)
        return {name: _mean(each) for name, each in values.items()}

    def _round_diagnostics(self, round: Round) -> Scalars:
        real, fake, objective = round.on_real.score, round.on_fake.score, self.loss.objective
        threshold = decision_threshold(objective, round)
        probability = discriminator_probability(objective, real)
        if probability is None:
            found = {"score/real": real.mean(), "score/fake": fake.mean()}
        else:
            fake_probability = discriminator_probability(objective, fake)
            assert fake_probability is not None
            found = {"D(x)": probability.mean(), "D(G(z))": fake_probability.mean()}
        found["accuracy/real"] = (real > threshold).float().mean()
        found["accuracy/fake"] = (fake <= threshold).float().mean()
        return {**found, **(self.objective.diagnostics(round) if self.objective else {})}

    def update_state(self) -> None:
        """Update the state of a stateful objective, after a player's step."""
        if self.objective:
            self.objective.update_state()

    def constrain(self, player: str) -> None:
        """Apply the loss's weight constraints; only the discriminator has any."""
        if player == "discriminator":
            for constraint in self.loss.constraints.values():
                constraint(getattr(self, player))


def _mean(values: list[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(values).mean()

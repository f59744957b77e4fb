"""The base class of all systems: networks, how they are run on a batch, and the losses of each player."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from oakleaf.conditioning.condition import Condition
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.errors import UserError
from oakleaf.games.critics import FurtherCritic
from oakleaf.image_grid import from_bytes
from oakleaf.losses.loss import Loss
from oakleaf.losses.objectives import decision_threshold, discriminator_probability
from oakleaf.losses.stateful import Stateful
from oakleaf.losses.terms import Term
from oakleaf.optim.player import Role
from oakleaf.round import Round, is_per_sample

Batch = dict[str, Tensor]
Scalars = dict[str, Tensor]


class Game(nn.Module, ABC):
    """A family of GAN systems: the networks, and how a batch becomes Rounds.

    A subclass sets its networks as attributes and implements `play`, `generate` and `sample_inputs`. A player is a
    network; its name is the name of the attribute, and its role decides what it minimises. The loss is independent of
    the game: any adversarial loss can be combined with any game.

    How the losses of one training step are computed, in three layers:

    1. `player_losses` decides what is active in this iteration (lazy terms, diagnostics).
    2. `losses` runs the networks and computes every active loss. It is a function of tensors, so it is what
       `compile=true` turns into one graph.
    3. `play` (of the subclass) runs the networks and returns Rounds; objective and terms are functions of a Round.

    A round's critic is the game's own (`discriminator`). A further critic (`model.critics`) scores the same images in
    copies of the rounds.

    Args:
        loss: the adversarial loss with its penalties and constraints.
        terms: further loss terms, by player and name. They define the system (cycle loss, mutual information, ...).
        condition: what the networks are conditioned on, or None.

    Attributes:
        roles: the role of each network of the game by name; `GAN` replaces them by those of its players.
        diagnosed_role: the role of the players in whose steps `diagnostics` are computed.
        augment: the augmentation between images and critics (`oakleaf.augment`), or None.
        frozen: networks that no player trains, by name.
        further: the further critics by name.
        initialized: names of the networks that have the weights of another run, and need no `initialize_from_data`.
        compiled: compiled versions of `losses` by player; empty while nothing is compiled.
        batched: by critic, whether real and fake images go through it in one pass; filled when it is known.
    """

    roles: Mapping[str, Role] = {"discriminator": "critic", "generator": "generator"}
    diagnosed_role: Role = "critic"

    def __init__(
        self,
        loss: Loss,
        terms: Mapping[str, Mapping[str, Term]] | None = None,
        condition: Condition | None = None,
    ) -> None:
        super().__init__()
        self.condition = condition
        self.loss = loss
        self.terms = nn.ModuleDict({player: nn.ModuleDict(named) for player, named in (terms or {}).items()})
        self.augment: Any = None
        self.frozen: Any = nn.ModuleDict()
        self.further: dict[str, FurtherCritic] = {}
        self.initialized: set[str] = set()
        self.compiled: dict[str, Callable[..., Scalars]] = {}
        self.batched: dict[str, bool] = {}

    def attach(
        self,
        critics: Mapping[str, FurtherCritic] | None = None,
        frozen: Mapping[str, nn.Module] | None = None,
        augment: Any = None,
    ) -> None:
        """Add what any game can have besides its own networks: further critics, frozen networks, an augmentation.

        A condition, a critic or another part of the game that has a method `use_frozen(networks)` gets the frozen
        networks by it. It may build layers for the shapes of theirs there, since no optimizer exists yet. It must keep
        them outside of its submodules, in a tuple for example, because its own weights are trained and averaged.

        Raises:
            UserError: a critic has the name of something else in the game.
        """
        self.frozen, self.augment = nn.ModuleDict(frozen or {}), augment
        for name, critic in (critics or {}).items():
            if hasattr(self, name):
                raise UserError(f"model.critics.{name}: the game has something of this name; choose another one")
            self.add_module(name, critic.network)
            self.further[name] = critic
            critic.loss = critic.loss or deepcopy(self.loss)
        self.further_losses = nn.ModuleDict({name: self.loss_of(name) for name in self.further})
        self.roles = {**self.roles, **dict.fromkeys(self.further, "critic")}  # type: ignore[dict-item]
        for module in self.modules():
            if hasattr(module, "use_frozen"):
                module.use_frozen(self.frozen)  # type: ignore[operator]

    @property
    def translates(self) -> bool:
        """Whether the generator maps input images to images (pix2pix, CycleGAN)."""
        return self.condition is not None and self.condition.key == "input"

    def takes_option(self, name: str) -> bool:
        """Whether a further row of the inputs of `generate` is handed to the generator, because its `forward` names it.

        Args:
            name: of the row, such as `truncation`.
        """
        return False

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

    def initialize_frozen(self, data: ImageDataModule) -> None:
        """Give the frozen networks their weights, once, before anything of a new run is sampled.

        Args:
            data: the training data, after `setup`.
        """
        for network in self.frozen.values():
            network.initialize(data)

    def initialize_from_data(self, data: ImageDataModule) -> None:
        """Initialise networks from real images, once, before the first iteration of a new run.

        A network with an attribute `initialization_images` gets that many images by its method `initialize_from`.

        Args:
            data: the training data, after `setup`.
        """
        for name, network in self.named_children():
            if (count := getattr(network, "initialization_images", 0)) and name not in self.initialized:
                indices = torch.randperm(data.count)[:count]
                network.initialize_from(from_bytes(data.images(indices.sort().values)))  # type: ignore[operator]

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

    def prepare(self, images: int) -> None:
        """Prepare an iteration, after `images` images were seen."""
        if self.augment is not None:
            self.augment.prepare(images)
        for loss in (self.loss, *(self.loss_of(name) for name in self.further)):
            if (prepare := getattr(loss.objective, "prepare", None)) is not None:
                prepare(images)

    def player_losses(
        self, player: str, batch: Batch, step: int, with_diagnostics: bool = False
    ) -> tuple[Scalars, Scalars]:
        """Compute the weighted losses that a player minimises in this iteration.

        Args:
            player: name of the player.
            batch: rows of the data.
            step: number of this player's step, for terms with `every` > 1.
            with_diagnostics: whether to compute `diagnostics` too.

        Returns:
            The losses by name, and the diagnostics by name (empty unless requested and the player has the role
            `diagnosed_role`).
        """
        active = tuple(name for name, term in self.terms_of(player).items() if step % term.every == 0)
        if with_diagnostics and self.roles[player] == self.diagnosed_role:
            rounds = self.build_rounds(player, batch)
            losses = self.compute_terms(player, rounds, active)
            found = self.diagnostics(rounds, player)
            return losses, {f"{player}/{n}": v for n, v in found.items()} if player in self.further else found
        return (self.compiled.get(player) or self.losses)(player, batch, active), {}

    def losses(self, player: str, batch: Batch, active: tuple[str, ...]) -> Scalars:
        """Run the networks and compute all active losses of a player. `compile=true` compiles this function.

        Args:
            active: names of the terms that are computed in this iteration.
        """
        return self.compute_terms(player, self.build_rounds(player, batch), active)

    def build_rounds(self, player: str, batch: Batch) -> list[Round]:
        """Run the networks and prepare the Rounds for a player's step: its critic, augmentation, joint pass."""
        rounds = self.play(batch)
        if player in self.further:
            rounds = self.rounds_of(player, rounds)
        rounds = self.rounds_for(player, rounds)
        if self.roles[player] == "critic" and self.augment is not None:
            rounds = [self.augment.replace(round) for round in rounds]
        networks = {name: self.get_submodule(name) for name in self.roles}
        for round in rounds:
            round.networks, round.frozen = networks, dict(self.frozen.items())
            round.generate = round.generate or self.generate
            # only a critic's losses always need both outputs
            round.batched = self.roles[player] == "critic" and self.takes_both(player)
            if self.augment is not None:
                round.critic = round.critic.changed(augment=self.augment)
        return rounds

    def takes_both(self, critic: str) -> bool:
        """Return whether real and fake images may go through a critic in one pass."""
        if critic not in self.batched:
            self.batched[critic] = is_per_sample(self.get_submodule(critic))
        return self.batched[critic]

    def rounds_of(self, critic: str, rounds: list[Round]) -> list[Round]:
        """Return copies of the Rounds with a further critic."""
        transform = self.further[critic].transform
        networks = self.networks_of(critic, len(rounds))
        bound = [r.critic.changed(network=n, transform=transform) for r, n in zip(rounds, networks)]
        return [round.scored_by(new) for round, new in zip(rounds, bound)]

    def networks_of(self, critic: str, count: int) -> list[nn.Module]:
        """Return the network of a further critic for each of the `count` Rounds of a batch."""
        return [self.get_submodule(critic)] * count

    def compute_terms(self, player: str, rounds: list[Round], active: tuple[str, ...]) -> Scalars:
        """Compute the player's side of the objective and its active terms.

        All `prepare` methods run before the critic does, because a penalty can request input gradients only then.
        """
        all_terms = self.terms_of(player)
        terms = {name: all_terms[name] for name in active}
        for term in terms.values():
            for round in rounds:
                term.prepare(round)
        losses = self.adversarial_losses(player, rounds)
        for name, term in terms.items():
            losses[name] = self.reduce([term(round) for round in rounds])
        if self.augment is not None and self.roles[player] == "critic" and player not in self.further:
            self.augment.observe(rounds[0], decision_threshold(self.loss_of(player).objective, rounds[0]))
        return losses

    def adversarial_losses(self, player: str, rounds: list[Round]) -> Scalars:
        """Return the player's side of the objective: `adversarial`, and for each further critic of which it is an
        opponent `adversarial_<name>`."""
        losses = {"adversarial": self._adversarial_loss(player, rounds, self.loss_of(player))}
        if self.roles[player] != "critic":
            for name, critic in self.further.items():
                assert critic.loss is not None
                loss = self._adversarial_loss(player, self.rounds_of(name, rounds), critic.loss)
                losses[f"adversarial_{name}"] = None if loss is None else critic.weight * loss
        return {name: loss for name, loss in losses.items() if loss is not None}

    def _adversarial_loss(self, player: str, rounds: list[Round], loss: Loss) -> Tensor | None:
        each = [self.adversarial(player, round, loss.objective) for round in rounds]
        losses = [value for value in each if value is not None]  # torch.compile cannot trace `:=` in a comprehension
        return self.reduce(losses) if losses else None

    def rounds_for(self, player: str, rounds: list[Round]) -> list[Round]:
        """Change or extend the Rounds for one player, e.g. replace fakes by older ones for the discriminator."""
        return rounds

    def reduce(self, losses: list[Tensor]) -> Tensor:
        """Combine one loss over several Rounds; by default the mean."""
        return _mean(losses)

    def adversarial(self, player: str, round: Round, objective: Any) -> Tensor | None:
        """Return the player's side of an objective; None for a player that minimises terms alone."""
        role = self.roles[player]
        if role == "critic":
            return objective.discriminator(round)  # type: ignore[no-any-return]
        return objective.generator(round) if role == "generator" else None

    def loss_of(self, player: str) -> Loss:
        """Return the adversarial loss of a player: that of a further critic for its own network."""
        critic = self.further.get(player)
        return self.loss if critic is None else critic.loss  # type: ignore[return-value]

    def terms_of(self, player: str) -> Mapping[str, Term]:
        """Return all loss terms of a player besides the objective. For a critic, the penalties that its loss brings
        come first."""
        own: dict[str, Any] = dict(self.terms[player].items()) if player in self.terms else {}  # type: ignore[operator]
        penalties: dict[str, Any] = dict(self.loss_of(player).penalties.items())
        return {**penalties, **own} if self.roles[player] == "critic" else own

    def parameters_of(self, player: str) -> list[tuple[str, nn.Parameter]]:
        """Return the named parameters that a player's optimizer trains: its network's and its terms'."""
        own = [*self.get_submodule(player).named_parameters()]
        for name, term in self.terms_of(player).items():
            own += [(f"terms.{name}.{key}", parameter) for key, parameter in term.named_parameters()]
        return own

    @torch.no_grad()
    def diagnostics(self, rounds: list[Round], player: str) -> Scalars:
        """Compute what is logged about a critic.

        Args:
            rounds: the Rounds of its step.
            player: the player's name.

        Returns:
            `D(x)` and `D(G(z))`, the mean probabilities, if the objective defines a probability; else `score/real` and
            `score/fake`, the mean outputs. `accuracy/real` and `accuracy/fake`, the shares of images on the right side
            of the objective's threshold. And what everything with a state adds.
        """
        loss = self.loss_of(player)
        values: dict[str, list[Tensor]] = {}
        for round in rounds:
            for name, value in _round_diagnostics(round, loss.objective).items():
                values.setdefault(name, []).append(value)
            for module in self.stateful():
                for name, value in module.diagnostics(round).items():
                    values.setdefault(name, []).append(value)
        return {name: _mean(each) for name, each in values.items()}

    def stateful(self) -> list[Stateful]:
        """Return everything with a state: objectives, terms, the augmentation."""
        if "_stateful" not in self.__dict__:
            roots = (self.loss, self.terms, self.augment, getattr(self, "further_losses", None))
            modules: Iterator[nn.Module] = (m for root in roots if root is not None for m in root.modules())
            self.__dict__["_stateful"] = [module for module in modules if isinstance(module, Stateful)]
        return self.__dict__["_stateful"]  # type: ignore[no-any-return]

    def update_state(self) -> None:
        """Update everything with a state, after a player's step."""
        for module in self.stateful():
            module.update_state()

    def constrain(self, player: str) -> None:
        """Apply the weight constraints of a critic's loss; other players have none."""
        if self.roles[player] == "critic":
            self.loss_of(player).constrain(self.get_submodule(player))


def _round_diagnostics(round: Round, objective: Any) -> Scalars:
    real, fake = round.on_real.score, round.on_fake.score
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
    return found


def _mean(values: list[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(values).mean()

"""A Game: players that are networks, a way to play a batch, and what each player pays."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from oakleaf.conditioning.condition import Condition
from oakleaf.image_grid import from_bytes
from oakleaf.losses.loss import Loss, with_instance_noise
from oakleaf.losses.stateful import StatefulObjective
from oakleaf.losses.terms import Term
from oakleaf.round import Round, is_per_sample

Batch = dict[str, Tensor]
Scalars = dict[str, Tensor]


class Game(nn.Module, ABC):
    """A family of systems. Subclasses set their networks as attributes and write `play` and `generate`; a player is
    an attribute of the game, and its name is its network's name.

    terms: by player and by name, what it pays besides the adversarial loss and the loss's penalties; they define the
    system, while the `loss` is free. condition: what the players are told of an image, if anything.
    watcher: the player with whose iteration there is something to see (`view`).
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
        self.loss = loss
        self.objective = (
            loss.objective if isinstance(loss.objective, StatefulObjective) else None
        )  # registers its state
        self.terms = {player: dict(named) for player, named in (terms or {}).items()}
        self.compiled: dict[str, Callable[..., Scalars]] = {}  # `paid` by player, where it is compiled
        self.batched: bool | None = None  # whether the discriminator judges real and fake in one pass

    @property
    def translates(self) -> bool:
        """Whether images are made from the data's `input`, a picture each."""
        return self.condition is not None and self.condition.key == "input"

    @abstractmethod
    def play(self, batch: Batch) -> list[Round]:
        """One play with fresh latents: real against fake, once or several times."""

    @abstractmethod
    def generate(self, batch: Batch) -> Tensor:
        """Images [B, C, H, W] in [-1, 1] for what the batch asks: samples, metrics, previews, export."""

    @abstractmethod
    def sample_inputs(self, count: int, device: torch.device | str = "cpu") -> Batch:
        """A batch for `generate` that asks for `count` images, drawn from the prior."""

    def initialize_from_data(self, rows: Mapping[str, Tensor]) -> None:
        """See the data as they are stored, once, before the first iteration; all that is drawn follows from the seed. A
        network that begins from real images (`start`) gets `start_from` of them."""
        images = rows["image"]
        for network in self.children():
            if count := getattr(network, "start_from", 0):
                some = torch.randperm(len(images))[:count]
                network.start(from_bytes(images[some.sort().values]))  # type: ignore[operator]

    def forward(self, *arguments: Any) -> tuple[Scalars, Scalars]:
        """`losses`, so that `torch.func.functional_call` can ask for them with other weights; without graphs, whose way
        back has none of its own."""
        graphs, self.compiled = self.compiled, {}
        try:
            return self.player_losses(*arguments)
        finally:
            self.compiled = graphs

    def player_losses(
        self, player: str, batch: Batch, iteration: int, images: int, watch: bool = False
    ) -> tuple[Scalars, Scalars]:
        """What the player minimises this iteration, by name, already weighted; and, on request, what there is to see.

        iteration counts the player's own turns, images the images seen before this one.
        """
        active = tuple(name for name, term in self.terms_of(player).items() if iteration % term.every == 0)
        if self.batched is None and player == "discriminator":
            self.batched = is_per_sample(self.get_submodule(player))
        noise = self.loss.instance_noise.sd_at(images)
        # no number, which a graph would be made anew for; filled in on the device, for which a copy would wait
        sd = batch["image"].new_full((), noise) if noise > 0 else None
        if watch and player == self.diagnostics_player:
            rounds = self.build_rounds(player, batch, sd)
            return self.compute_terms(player, rounds, active), self.diagnostics(rounds)
        return (self.compiled.get(player) or self.losses)(player, batch, active, sd), {}

    def losses(self, player: str, batch: Batch, active: tuple[str, ...], sd: Tensor | None) -> Scalars:
        """A whole iteration without its looks: latents, networks, objective and penalties. What `compile` makes a graph of.

        active: the names of the terms that are paid this iteration; sd: of the instance noise.
        """
        return self.compute_terms(player, self.build_rounds(player, batch, sd), active)

    def build_rounds(self, player: str, batch: Batch, sd: Tensor | None) -> list[Round]:
        rounds = self.rounds_for(player, self.play(batch))
        for round in rounds:
            round.batched = player == "discriminator" and bool(self.batched)  # other players may need one of them alone
        return rounds if sd is None else [with_instance_noise(round, sd) for round in rounds]

    def compute_terms(self, player: str, rounds: list[Round], active: tuple[str, ...]) -> Scalars:
        """What the player pays for the rounds."""
        terms_of = self.terms_of(player)
        terms = {name: terms_of[name] for name in active}
        for term in terms.values():
            for round in rounds:
                term.prepare(round)
        sides = [side for round in rounds if (side := self.adversarial(player, round)) is not None]
        paid = {"adversarial": self.reduce(sides)} if sides else {}
        for name, term in terms.items():
            paid[name] = self.reduce([term(round) for round in rounds])
        return paid

    def rounds_for(self, player: str, rounds: list[Round]) -> list[Round]:
        """The rounds as the player meets them: a game may keep a history of fakes for its discriminator."""
        return rounds

    def reduce(self, paid: list[Tensor]) -> Tensor:
        """What is paid for several rounds: the mean."""
        return _mean(paid)

    def adversarial(self, player: str, round: Round) -> Tensor | None:
        """The player's side of the loss's objective; None for one who has none, and pays terms alone."""
        if player not in ("discriminator", "generator"):
            return None
        return getattr(self.loss.objective, player)(round)  # type: ignore[no-any-return]

    def terms_of(self, player: str) -> Mapping[str, Term]:
        """The player's terms; the discriminator's begin with the loss's penalties."""
        own = self.terms.get(player, {})
        return {**self.loss.penalties, **own} if player == "discriminator" else own

    @torch.no_grad()
    def diagnostics(self, rounds: list[Round]) -> Scalars:
        """How the critic sees the round: D(x), D(G(z)), its accuracy on either side, and what the objective adds."""
        seen: dict[str, list[Tensor]] = {"D(x)": [], "D(G(z))": [], "accuracy_real": [], "accuracy_fake": []}
        objective = self.loss.objective
        for round in rounds:
            real, fake, threshold = round.on_real.score, round.on_fake.score, objective.decision_threshold(round)
            seen["D(x)"].append(objective.discriminator_probability(real).mean())
            seen["D(G(z))"].append(objective.discriminator_probability(fake).mean())
            seen["accuracy_real"].append((real > threshold).float().mean())
            seen["accuracy_fake"].append((fake <= threshold).float().mean())
            for name, value in (self.objective.diagnostics(round) if self.objective else {}).items():
                seen.setdefault(name, []).append(value)
        return {name: _mean(values) for name, values in seen.items()}

    def update_state(self) -> None:
        """After a player's step: an objective with a state lets it follow."""
        if self.objective:
            self.objective.update_state()

    def constrain(self, player: str) -> None:
        """Restore the loss's constraints on the player's weights; only the discriminator has any."""
        if player == "discriminator":
            for constraint in self.loss.constraints.values():
                constraint(getattr(self, player))


def _mean(values: list[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(values).mean()

"""A Game: players that are networks, a way to play a batch, and what each player pays."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from oakleaf.conditioning.condition import Condition
from oakleaf.image_grid import from_bytes
from oakleaf.losses.loss import Loss, blurred
from oakleaf.losses.stateful import Adaptive
from oakleaf.losses.terms import Term
from oakleaf.round import Round, judges_singly

Batch = dict[str, Tensor]
Scalars = dict[str, Tensor]


class Game(nn.Module, ABC):
    """A family of systems. Subclasses set their networks as attributes and write `play` and `generate`; a player is
    an attribute of the game, and its name is its network's name.

    terms: by player and by name, what it pays besides the adversarial loss and the loss's penalties; they define the
    system, while the `loss` is free. condition: what the players are told of an image, if anything.
    watcher: the player with whose turn there is something to see (`view`).
    """

    watcher = "discriminator"

    def __init__(
        self,
        loss: Loss,
        terms: Mapping[str, Mapping[str, Term]] | None = None,
        condition: Condition | None = None,
    ) -> None:
        super().__init__()
        self.condition = condition
        self.loss = loss
        self.objective = loss.objective if isinstance(loss.objective, Adaptive) else None  # registers its state
        self.terms = {player: dict(named) for player, named in (terms or {}).items()}
        self.graphs: dict[str, Callable[..., Scalars]] = {}  # `paid` by player, where it is compiled
        self.jointly: bool | None = None  # whether the discriminator judges real and fake in one pass

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
    def request(self, count: int, device: torch.device | str = "cpu") -> Batch:
        """A batch for `generate` that asks for `count` images, drawn from the prior."""

    def meet(self, rows: Mapping[str, Tensor]) -> None:
        """See the data as they are stored, once, before the first turn; all that is drawn follows from the seed. A
        network that begins from real images (`start`) gets `start_from` of them."""
        images = rows["image"]
        for network in self.children():
            if count := getattr(network, "start_from", 0):
                some = torch.randperm(len(images))[:count]
                network.start(from_bytes(images[some.sort().values]))  # type: ignore[operator]

    def forward(self, *arguments: Any) -> tuple[Scalars, Scalars]:
        """`losses`, so that `torch.func.functional_call` can ask for them with other weights; without graphs, whose way
        back has none of its own."""
        graphs, self.graphs = self.graphs, {}
        try:
            return self.losses(*arguments)
        finally:
            self.graphs = graphs

    def losses(self, player: str, batch: Batch, turn: int, images: int, watch: bool = False) -> tuple[Scalars, Scalars]:
        """What the player minimises this turn, by name, already weighted; and, on request, what there is to see.

        turn counts the player's own turns, images the images seen before this one.
        """
        due = tuple(name for name, term in self.owed(player).items() if turn % term.every == 0)
        if self.jointly is None and player == "discriminator":
            self.jointly = judges_singly(self.get_submodule(player))
        noise = self.loss.instance_noise.at(images)
        # no number, which a graph would be made anew for; filled in on the device, for which a copy would wait
        sd = batch["image"].new_full((), noise) if noise > 0 else None
        if watch and player == self.watcher:
            rounds = self.rounds(player, batch, sd)
            return self.charged(player, rounds, due), self.view(rounds)
        return (self.graphs.get(player) or self.paid)(player, batch, due, sd), {}

    def paid(self, player: str, batch: Batch, due: tuple[str, ...], sd: Tensor | None) -> Scalars:
        """A whole turn without its looks: latents, networks, objective and penalties. What `compile` makes a graph of.

        due: the names of the terms that are paid this turn; sd: of the instance noise.
        """
        return self.charged(player, self.rounds(player, batch, sd), due)

    def rounds(self, player: str, batch: Batch, sd: Tensor | None) -> list[Round]:
        rounds = self.faced(player, self.play(batch))
        for round in rounds:
            round.joint = player == "discriminator" and bool(self.jointly)  # other players may need one of them alone
        return rounds if sd is None else [blurred(round, sd) for round in rounds]

    def charged(self, player: str, rounds: list[Round], due: tuple[str, ...]) -> Scalars:
        """What the player pays for the rounds."""
        owed = self.owed(player)
        terms = {name: owed[name] for name in due}
        for term in terms.values():
            for round in rounds:
                term.prepare(round)
        sides = [side for round in rounds if (side := self.adversarial(player, round)) is not None]
        paid = {"adversarial": self.together(sides)} if sides else {}
        for name, term in terms.items():
            paid[name] = self.together([term(round) for round in rounds])
        return paid

    def faced(self, player: str, rounds: list[Round]) -> list[Round]:
        """The rounds as the player meets them: a game may keep a history of fakes for its discriminator."""
        return rounds

    def together(self, paid: list[Tensor]) -> Tensor:
        """What is paid for several rounds: the mean."""
        return _mean(paid)

    def adversarial(self, player: str, round: Round) -> Tensor | None:
        """The player's side of the loss's objective; None for one who has none, and pays terms alone."""
        if player not in ("discriminator", "generator"):
            return None
        return getattr(self.loss.objective, player)(round)  # type: ignore[no-any-return]

    def owed(self, player: str) -> Mapping[str, Term]:
        """The player's terms; the discriminator's begin with the loss's penalties."""
        own = self.terms.get(player, {})
        return {**self.loss.penalties, **own} if player == "discriminator" else own

    @torch.no_grad()
    def view(self, rounds: list[Round]) -> Scalars:
        """How the critic sees the round: D(x), D(G(z)), its accuracy on either side, and what the objective adds."""
        seen: dict[str, list[Tensor]] = {"D(x)": [], "D(G(z))": [], "accuracy_real": [], "accuracy_fake": []}
        objective = self.loss.objective
        for round in rounds:
            real, fake, boundary = round.on_real.score, round.on_fake.score, objective.boundary(round)
            seen["D(x)"].append(objective.belief(real).mean())
            seen["D(G(z))"].append(objective.belief(fake).mean())
            seen["accuracy_real"].append((real > boundary).float().mean())
            seen["accuracy_fake"].append((fake <= boundary).float().mean())
            for name, value in (self.objective.view(round) if self.objective else {}).items():
                seen.setdefault(name, []).append(value)
        return {name: _mean(values) for name, values in seen.items()}

    def settle(self) -> None:
        """After a player's step: an objective with a state lets it follow."""
        if self.objective:
            self.objective.settle()

    def constrain(self, player: str) -> None:
        """Restore the loss's constraints on the player's weights; only the discriminator has any."""
        if player == "discriminator":
            for constraint in self.loss.constraints.values():
                constraint(getattr(self, player))


def _mean(values: list[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(values).mean()

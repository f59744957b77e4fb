"""The one LightningModule: players take turns. It knows no loss, no network and no task."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from oakleaf.config.types import Count
from oakleaf.errors import Mistake
from oakleaf.games import Batch, Game
from oakleaf.optim.ema import EMA, Average
from oakleaf.optim.player import Player, total_norm
from oakleaf.optim.unrolled import foreseen
from oakleaf.runtime import distributed, memory
from oakleaf.runtime.nonfinite import Guard, heal
from oakleaf.runtime.running_means import Means
from oakleaf.runtime.seeds import sow, stream

RIVAL = "discriminator"  # whose steps a player that looks ahead foresees


class GAN(LightningModule):
    """Plays the game of Goodfellow 2014, arXiv:1406.2661, Algorithm 1, by manual optimization.

    players are played in the order given, each on every `every`-th turn; a turn is one batch. `turn` and `images`
    count batches and images seen by all processes together; they are the run's only clock: Lightning's `global_step`
    counts the steps of all optimizers. `step` is how many images the last turn saw.

    All random numbers of a turn follow from (seed, turn, rank): ranks never draw the same latents, whatever else draws
    in between changes nothing, and a resumed run needs no generator's state.
    """

    def __init__(
        self,
        game: Game,
        players: Mapping[str, Player],
        ema: EMA | None = None,
        seed: int = 0,
        watch_every: Count = 50,
        max_images: Count | None = None,
        guard: Guard | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.game = game
        self.players = dict(players)
        averaged = ema.players(self.players) if ema else []
        if strangers := [name for name in averaged if name not in self.players]:
            raise Mistake(f"optim.ema.of={strangers[0]}: no player; there are {' and '.join(self.players)}")
        if ahead := [name for name, player in self.players.items() if player.unrolled and name == RIVAL]:
            raise Mistake(f"optim.{ahead[0]}.unrolled: its own are the steps that another player foresees; 0 is none")
        if RIVAL not in self.players and any(player.unrolled for player in self.players.values()):
            raise Mistake(
                "optim.generator.unrolled: there is no discriminator whose steps could be foreseen; 0 is none"
            )
        self.averages = nn.ModuleDict({name: Average(self.network(name), ema) for name in averaged} if ema else {})
        self.seed, self.watch_every, self.max_images = seed, watch_every, max_images
        self.guard = guard or Guard()
        self.turn = self.images = self.step = 0
        self.classes: list[str] = []  # what the numbers of labels are called in the data that were learned from
        self.learned = ""  # which data those were
        self.means = Means()
        self.latest: dict[str, float] = {}  # the scalars of the last look
        self.unseen = set(self.players)  # which of them are to be watched at their next turn
        self.weights = {name: list(self.network(name).parameters()) for name in self.players}
        self.to(memory_format=torch.channels_last)  # convolutions are faster so

    def network(self, player: str) -> nn.Module:
        return self.game.get_submodule(player)

    @property
    def average(self) -> Average | None:
        """That of the generator, which draws."""
        return dict(self.averages.items()).get("generator")  # type: ignore[return-value]

    def on_fit_start(self) -> None:
        """The condition sees the data, before a callback asks for samples."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self.classes, self.learned = list(data.classes), data.hash
        if self.game.condition:
            self.game.condition.meet(data)

    def on_train_start(self) -> None:
        """In a new run the game sees the data; and a resumed run learns as its recipe now says, not as the optimizers'
        restored state remembers."""
        if self.device.type == "cpu":  # by Lightning's 1 each step of an optimizer would open the GPU driver's library
            os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.turn == 0:
            torch.manual_seed(stream(self.seed, "meet"))
            self.game.meet(data.rows)
            for name, average in self.averages.items():
                average.network.load_state_dict(self.network(name).state_dict())  # type: ignore[union-attr]
        for optimizer in self._optimizers():
            for group in optimizer.param_groups:
                group.update({name: value for name, value in optimizer.defaults.items() if name in group})

    def configure_optimizers(self) -> list[Optimizer]:
        return [player.build(self.network(name)) for name, player in self.players.items()]

    def training_step(self, batch: Batch, _: int) -> None:
        sow(stream(self.seed, self.turn, self.global_rank), self.device)
        self.turn += 1
        self.step = len(next(iter(batch.values()))) * self.trainer.world_size
        for (name, player), optimizer in zip(self.players.items(), self._optimizers()):
            if self.turn % player.every == 0:
                try:
                    self.play(name, player, optimizer, batch)
                except (RuntimeError, MemoryError) as error:
                    if not memory.exhausted(error):
                        raise
                    raise Mistake(memory.advice(self, batch)) from error
                if name in self.averages:
                    seen = self.images + self.step
                    self.averages[name].update(self.network(name), seen, self.step * player.every)  # type: ignore[operator]
        self.images += self.step
        if self.max_images and self.images >= self.max_images:
            self.trainer.should_stop = True

    def play(self, name: str, player: Player, optimizer: Any, batch: Batch) -> None:
        """One player's turn: only its weights carry gradient, so no game says `detach`."""
        for other, weights in self.weights.items():
            for weight in weights:
                weight.requires_grad_(other == name)
        watch = name in self.unseen
        self.unseen.discard(name)
        ahead = self.foreseen(player.unrolled, batch) if player.unrolled else {}
        asked = (name, batch, self.turn // player.every, self.images, watch)
        losses, seen = functional_call(self.game, ahead, asked) if ahead else self.game.losses(*asked)
        if not losses:  # no term is due
            return
        for weight in self.weights[name]:
            weight.grad = None
        # not Lightning's manual_backward: no loss is scaled here, and its hooks took as long as a small network
        with torch.autocast(self.device.type, enabled=False):  # the precision of each step back is its step's forward
            torch.autograd.backward(sum(losses.values()), inputs=self.weights[name])  # type: ignore[arg-type]
        gradients = [weight.grad for weight in self.weights[name] if weight.grad is not None]
        distributed.average(gradients)
        player.steer(optimizer, self.images)
        norm = total_norm(gradients)
        shared = self.trainer.world_size > 1  # then only the gradient is, and all processes must decide alike
        if self.guard.allows(name, optimizer.optimizer, {} if shared else losses, norm):
            player.clip_(gradients, norm)
            self._step(optimizer)
            self.game.constrain(name)
        self._mind(batch)
        self.game.settle()
        self.means.add(name, losses)
        self.means.add(name, {**seen, "gradient_norm": norm} if watch else seen)

    def _mind(self, batch: Batch) -> None:
        """Whether steps had to be skipped: at once; on a GPU, which must not wait, at each look."""

        def draws() -> Tensor:
            return self.draw(self.game.request(8, self.device), average=False)

        seen = self.guard.bad and (self.device.type != "cuda" or self.turn % self.watch_every == 0)
        if seen and self.guard.look(self.turn, batch, draws):
            for name in self.players:
                average = dict(self.averages.items()).get(name)
                heal(self.network(name), average.network if average else None)  # type: ignore[arg-type]

    def foreseen(self, steps: int, batch: Batch) -> dict[str, Tensor]:
        """The discriminator's weights, by their names in the game, after so many more of its steps on this batch."""
        optimizer = self._optimizers()[list(self.players).index(RIVAL)]
        weights = {f"{RIVAL}.{name}": weight for name, weight in self.network(RIVAL).named_parameters()}

        def paid(weights: dict[str, Tensor]) -> Tensor:
            turn = self.turn // self.players[RIVAL].every
            losses, _ = functional_call(self.game, weights, (RIVAL, batch, turn, self.images))
            return torch.stack(list(losses.values())).sum()

        bound = self.game.loss.bound
        return foreseen(paid, weights, optimizer.optimizer, steps, self.players[RIVAL].clipped, bound)

    def _step(self, optimizer: Any) -> None:
        """The optimizer's own step, counted as Lightning counts (`global_step`), without the hooks around it."""
        counted = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        counted.increment_ready()
        optimizer.optimizer.step()
        counted.increment_completed()

    def _optimizers(self) -> list[Any]:
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]

    @contextmanager
    def averaged(self, average: bool = True) -> Iterator[Game]:
        """The game in eval mode and without gradients, its players replaced by their averages where there are any."""
        live, training = {name: self.network(name) for name in self.averages}, self.game.training
        self.game.eval()
        if average:
            self._swap({name: mean.network for name, mean in self.averages.items()})
        try:
            with torch.no_grad():
                yield self.game
        finally:
            self._swap(live)
            self.game.train(training)

    def _swap(self, networks: Mapping[str, Any]) -> None:
        for name, network in networks.items():
            setattr(self.game, name, network)

    def draw(self, batch: Batch, average: bool = True, how: Callable[[Game, Batch], Tensor] | None = None) -> Tensor:
        """Images [B, C, H, W] in [-1, 1], fp32, for what the batch asks (`Game.request`). how: if not by
        `Game.generate`."""
        asked = {name: value.to(self.dtype) if value.is_floating_point() else value for name, value in batch.items()}
        with self.averaged(average) as game:
            return (how(game, asked) if how else game.generate(asked)).float()

    @property
    def total(self) -> int | None:
        """The run's length in images, once a batch has been seen; None if it is endless or bounded by time alone."""
        if self.max_images:
            return self.max_images
        epochs = self.trainer.max_epochs
        return int(epochs * self.trainer.num_training_batches * self.step) if epochs and epochs > 0 else None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["turn"], checkpoint["images"] = self.turn, self.images
        checkpoint["learned"] = {"classes": self.classes, "data": self.learned}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.turn, self.images = checkpoint["turn"], checkpoint["images"]
        learned = checkpoint.get("learned", {})  # not in those of before 2026-11-23
        self.classes, self.learned = list(learned.get("classes", ())), str(learned.get("data", ""))

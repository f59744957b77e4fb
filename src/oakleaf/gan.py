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

from oakleaf.config.types import PositiveInt
from oakleaf.errors import UserError
from oakleaf.games import Batch, Game
from oakleaf.optim.ema import EMA, AveragedNetwork
from oakleaf.optim.player import Player, total_norm
from oakleaf.optim.unrolled import unrolled_weights
from oakleaf.runtime import distributed, memory
from oakleaf.runtime.nonfinite import NonFiniteGuard, repair_buffers
from oakleaf.runtime.running_means import RunningMeans
from oakleaf.runtime.seeds import derive_seed, seed_generators

DISCRIMINATOR = "discriminator"  # whose steps a player that looks ahead foresees


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
        log_every: PositiveInt = 50,
        max_images: PositiveInt | None = None,
        guard: NonFiniteGuard | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.game = game
        self.players = dict(players)
        averaged = ema.players(self.players) if ema else []
        if strangers := [name for name in averaged if name not in self.players]:
            raise UserError(f"optim.ema.of={strangers[0]}: no player; there are {' and '.join(self.players)}")
        if ahead := [name for name, player in self.players.items() if player.unrolled and name == DISCRIMINATOR]:
            raise UserError(f"optim.{ahead[0]}.unrolled: its own are the steps that another player foresees; 0 is none")
        if DISCRIMINATOR not in self.players and any(player.unrolled for player in self.players.values()):
            raise UserError(
                "optim.generator.unrolled: there is no discriminator whose steps could be foreseen; 0 is none"
            )
        self.ema = nn.ModuleDict({name: AveragedNetwork(self.network(name), ema) for name in averaged} if ema else {})
        self.seed, self.log_every, self.max_images = seed, log_every, max_images
        self.guard = guard or NonFiniteGuard()
        self.iteration = self.images_seen = self.global_batch_size = 0
        self.classes: list[str] = []  # what the numbers of labels are called in the data that were learned from
        self.trained_on = ""  # which data those were
        self.running_means = RunningMeans()
        self.last_scalars: dict[str, float] = {}  # the scalars of the last look
        self.log_next = set(self.players)  # which of them are to be watched at their next turn
        self.weights = {name: list(self.network(name).parameters()) for name in self.players}
        self.to(memory_format=torch.channels_last)  # convolutions are faster so

    def network(self, player: str) -> nn.Module:
        return self.game.get_submodule(player)

    @property
    def generator_ema(self) -> AveragedNetwork | None:
        """That of the generator, which draws."""
        return dict(self.ema.items()).get("generator")  # type: ignore[return-value]

    def on_fit_start(self) -> None:
        """The condition sees the data, before a callback asks for samples."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self.classes, self.trained_on = list(data.classes), data.hash
        if self.game.condition:
            self.game.condition.fit(data)

    def on_train_start(self) -> None:
        """In a new run the game sees the data; and a resumed run learns as its recipe now says, not as the optimizers'
        restored state remembers."""
        if self.device.type == "cpu":  # by Lightning's 1 each step of an optimizer would open the GPU driver's library
            os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.iteration == 0:
            torch.manual_seed(derive_seed(self.seed, "meet"))
            self.game.initialize_from_data(data.rows)
            for name, ema in self.ema.items():
                ema.network.load_state_dict(self.network(name).state_dict())  # type: ignore[union-attr]
        for optimizer in self._optimizers():
            for group in optimizer.param_groups:
                group.update({name: value for name, value in optimizer.defaults.items() if name in group})

    def configure_optimizers(self) -> list[Optimizer]:
        return [player.build(self.network(name)) for name, player in self.players.items()]

    def training_step(self, batch: Batch, _: int) -> None:
        seed_generators(derive_seed(self.seed, self.iteration, self.global_rank), self.device)
        self.iteration += 1
        self.global_batch_size = len(next(iter(batch.values()))) * self.trainer.world_size
        for (name, player), optimizer in zip(self.players.items(), self._optimizers()):
            if self.iteration % player.every == 0:
                try:
                    self.player_step(name, player, optimizer, batch)
                except (RuntimeError, MemoryError) as error:
                    if not memory.is_out_of_memory(error):
                        raise
                    raise UserError(memory.batch_size_advice(self, batch)) from error
                if name in self.ema:
                    seen = self.images_seen + self.global_batch_size
                    self.ema[name].update(self.network(name), seen, self.global_batch_size * player.every)  # type: ignore[operator]
        self.images_seen += self.global_batch_size
        if self.max_images and self.images_seen >= self.max_images:
            self.trainer.should_stop = True

    def player_step(self, name: str, player: Player, optimizer: Any, batch: Batch) -> None:
        """One player's turn: only its weights carry gradient, so no game says `detach`."""
        for other, weights in self.weights.items():
            for weight in weights:
                weight.requires_grad_(other == name)
        watch = name in self.log_next
        self.log_next.discard(name)
        ahead = self._unrolled_weights(player.unrolled, batch) if player.unrolled else {}
        asked = (name, batch, self.iteration // player.every, self.images_seen, watch)
        losses, seen = functional_call(self.game, ahead, asked) if ahead else self.game.player_losses(*asked)
        if not losses:  # no term is due
            return
        for weight in self.weights[name]:
            weight.grad = None
        # not Lightning's manual_backward: no loss is scaled here, and its hooks took as long as a small network
        with torch.autocast(self.device.type, enabled=False):  # the precision of each step back is its step's forward
            torch.autograd.backward(sum(losses.values()), inputs=self.weights[name])  # type: ignore[arg-type]
        gradients = [weight.grad for weight in self.weights[name] if weight.grad is not None]
        distributed.all_reduce_mean(gradients)
        player.apply_schedule(optimizer, self.images_seen)
        norm = total_norm(gradients)
        shared = self.trainer.world_size > 1  # then only the gradient is, and all processes must decide alike
        if self.guard.check(name, optimizer.optimizer, {} if shared else losses, norm):
            player.clip_(gradients, norm)
            self._step(optimizer)
            self.game.constrain(name)
        self._check_skipped(batch)
        self.game.update_state()
        self.running_means.add(name, losses)
        self.running_means.add(name, {**seen, "gradient_norm": norm} if watch else seen)

    def _check_skipped(self, batch: Batch) -> None:
        """Whether steps had to be skipped: at once; on a GPU, which must not wait, at each look."""

        def draws() -> Tensor:
            return self.sample(self.game.sample_inputs(8, self.device), ema=False)

        seen = self.guard.consecutive and (self.device.type != "cuda" or self.iteration % self.log_every == 0)
        if seen and self.guard.raise_if_diverged(self.iteration, batch, draws):
            for name in self.players:
                ema = dict(self.ema.items()).get(name)
                repair_buffers(self.network(name), ema.network if ema else None)  # type: ignore[arg-type]

    def _unrolled_weights(self, steps: int, batch: Batch) -> dict[str, Tensor]:
        """The discriminator's weights, by their names in the game, after so many more of its steps on this batch."""
        optimizer = self._optimizers()[list(self.players).index(DISCRIMINATOR)]
        weights = {f"{DISCRIMINATOR}.{name}": weight for name, weight in self.network(DISCRIMINATOR).named_parameters()}

        def paid(weights: dict[str, Tensor]) -> Tensor:
            turn = self.iteration // self.players[DISCRIMINATOR].every
            losses, _ = functional_call(self.game, weights, (DISCRIMINATOR, batch, turn, self.images_seen))
            return torch.stack(list(losses.values())).sum()

        bound = self.game.loss.project
        return unrolled_weights(paid, weights, optimizer.optimizer, steps, self.players[DISCRIMINATOR].clipped, bound)

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
    def ema_scope(self, ema: bool = True) -> Iterator[Game]:
        """The game in eval mode and without gradients, its players replaced by their averages where there are any."""
        live, training = {name: self.network(name) for name in self.ema}, self.game.training
        self.game.eval()
        if ema:
            self._swap({name: mean.network for name, mean in self.ema.items()})
        try:
            with torch.no_grad():
                yield self.game
        finally:
            self._swap(live)
            self.game.train(training)

    def _swap(self, networks: Mapping[str, Any]) -> None:
        for name, network in networks.items():
            setattr(self.game, name, network)

    def sample(self, batch: Batch, ema: bool = True, how: Callable[[Game, Batch], Tensor] | None = None) -> Tensor:
        """Images [B, C, H, W] in [-1, 1], fp32, for what the batch asks (`Game.request`). how: if not by
        `Game.generate`."""
        asked = {name: value.to(self.dtype) if value.is_floating_point() else value for name, value in batch.items()}
        with self.ema_scope(ema) as game:
            return (how(game, asked) if how else game.generate(asked)).float()

    @property
    def total_images(self) -> int | None:
        """The run's length in images, once a batch has been seen; None if it is endless or bounded by time alone."""
        if self.max_images:
            return self.max_images
        epochs = self.trainer.max_epochs
        return (
            int(epochs * self.trainer.num_training_batches * self.global_batch_size) if epochs and epochs > 0 else None
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["iteration"], checkpoint["images_seen"] = self.iteration, self.images_seen
        checkpoint["trained_on"] = {"classes": self.classes, "data": self.trained_on}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.iteration, self.images_seen = checkpoint["iteration"], checkpoint["images_seen"]
        self.classes, self.trained_on = list(checkpoint["trained_on"]["classes"]), checkpoint["trained_on"]["data"]

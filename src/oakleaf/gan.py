"""The LightningModule. It alternates the players' updates and depends on no particular loss, network or task."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from oakleaf import compat
from oakleaf.config.types import PositiveInt
from oakleaf.errors import UserError
from oakleaf.games import Batch, Game
from oakleaf.optim.ema import EMA, AveragedNetwork
from oakleaf.optim.player import Player, total_norm
from oakleaf.optim.scheduled import scheduled_numbers
from oakleaf.optim.unrolled import unrolled_weights
from oakleaf.runtime import distributed, memory
from oakleaf.runtime.hooks import Hooks, is_overridden, overridden_hooks
from oakleaf.runtime.nonfinite import NonFiniteGuard, repair_buffers
from oakleaf.runtime.running_means import RunningMeans
from oakleaf.runtime.seeds import derive_seed, seed_generators

Losses = dict[str, Tensor]


class GAN(LightningModule):
    """Train a Game by manual optimization: Algorithm 1 of Goodfellow 2014, arXiv:1406.2661.

    One training step is one batch. In it each player is updated in turn, in the order of `players`, if the iteration is
    a multiple of its `every`. For each update: compute the losses, compute the gradients, update the parameters.

    Counters. `iteration` and `images_seen` count over all processes together, and every interval and schedule is in
    images seen. Lightning's `global_step` counts the steps of all optimizers and is used for nothing.

    Random numbers. All random numbers of an iteration follow from (seed, iteration, rank). So processes never draw the
    same latents, whatever else draws random numbers in between changes nothing, and a resumed run needs no stored
    random state.

    Args:
        game: networks, and how a batch becomes losses.
        players: how each network is updated, by name; a key is the name of a network of the game.
        ema: moving averages of the players' weights, or None.
        seed: seed of all random numbers of the training.
        log_every: iterations between two rows of logged scalars.
        max_images: length of the run in images seen; None: `trainer.max_epochs` decides.
        guard: what to do about losses or gradients that are NaN or infinite.
        schedules: schedules of any numbers of loss, model, augmentation or EMA, in nested mappings with the recipe's
            keys (`oakleaf.optim.scheduled`).

    Attributes:
        iteration: training steps so far.
        images_seen: images seen so far, by all processes.
        global_batch_size: images in the last iteration, over all processes.
        classes: names of the classes in the data of the training, in the order of their numbers.
        trained_on: hash of the data of the training.
        running_means: losses and diagnostics since the last logged row.
        last_scalars: the last logged row.
        log_next: players whose diagnostics are computed in their next step.
        recipe: the configuration that checkpoints store; empty if the module was not built from one.
        hooks: what callbacks and a subclass do around backward passes and optimizer steps (`oakleaf.runtime.hooks`).
        weights: the parameters of each player.
        ema: the averaged networks by player.
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
        schedules: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.game = game
        self.players = dict(players)
        averaged = ema.players(self.players) if ema else []
        self._check_players(averaged)
        game.roles = {name: player.role for name, player in self.players.items()}
        self.ema = nn.ModuleDict({name: AveragedNetwork(self.network(name), ema) for name in averaged} if ema else {})
        self.seed, self.log_every, self.max_images = seed, log_every, max_images
        self.guard = guard or NonFiniteGuard()
        self.iteration = self.images_seen = self.global_batch_size = 0
        self.classes: list[str] = []
        self.trained_on = ""
        self.recipe: dict[str, Any] = {}
        self.hooks: Hooks = {}
        self.clips_by_itself = is_overridden(self, "configure_gradient_clipping", LightningModule)
        self.running_means = RunningMeans()
        self.last_scalars: dict[str, float] = {}
        self.log_next = set(self.players)
        self.trained = {name: player.trained(game.parameters_of(name)) for name, player in self.players.items()}
        self.weights = {name: [parameter for _, parameter in named] for name, named in self.trained.items()}
        roots = {"loss": game.loss, "model": {"game": game, "critics": game.further}, "augment": game.augment}
        numbers = scheduled_numbers(schedules or {}, {**roots, "optim": {"ema": ema, **self.players}})
        self.scheduled = list(numbers)
        self.to(memory_format=torch.channels_last)  # convolutions are faster in this layout

    def _check_players(self, averaged: list[str]) -> None:
        if unknown := [name for name in averaged if name not in self.players]:
            raise UserError(f"optim.ema.of={unknown[0]}: no such player; the players are {' and '.join(self.players)}")
        for name, player in self.players.items():
            if not isinstance(getattr(self.game, name, None), nn.Module):
                networks = " and ".join(self.game.roles)
                raise UserError(f"optim.{name}: model.game has no network of this name; it has {networks}")
            if player.unrolled and player.role == "critic":
                raise UserError(f"optim.{name}.unrolled: only another player can unroll a critic's steps; set it to 0")
            if player.unrolled and not self._critics():
                raise UserError(f"optim.{name}.unrolled: there is no critic whose steps can be unrolled; set it to 0")

    def _critics(self) -> list[str]:
        return [name for name, player in self.players.items() if player.role == "critic"]

    def network(self, player: str) -> nn.Module:
        """Return the network of a player."""
        return self.game.get_submodule(player)

    @property
    def generator_ema(self) -> AveragedNetwork | None:
        """The moving average of the (first) generator, or None if the run keeps none."""
        generators = [name for name, player in self.players.items() if player.role == "generator"]
        return next((self.ema[name] for name in generators if name in self.ema), None)  # type: ignore[return-value]

    @property
    def total_images(self) -> int | None:
        """The run's length in images; None before the first batch, or if only time or nothing limits it."""
        if self.max_images:
            return self.max_images
        if not self.global_batch_size:
            return None
        epochs = self.trainer.max_epochs
        batches = self.trainer.num_training_batches
        if not epochs or epochs < 0 or batches == float("inf"):  # infinite: an iterable set of unknown length
            return None
        return int(epochs * batches * self.global_batch_size)

    # ---- Lightning's hooks -------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> list[Optimizer]:
        """Build one optimizer for each player; the `name` of its parameter groups begins with the player's."""
        optimizers = [player.build(self.trained[name]) for name, player in self.players.items()]
        for (name, player), optimizer in zip(self.players.items(), optimizers):
            for group, suffix in zip(optimizer.param_groups, ["", *(f"/{own}" for own in player.param_groups)]):
                group["name"] = f"{name}{suffix}"
        return optimizers

    def on_fit_start(self) -> None:
        """Read class names, condition and frozen networks from the data, before any callback samples.

        Raises:
            UserError: the weights of a frozen network are missing.
        """
        self.hooks = overridden_hooks(self.trainer, self)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self.classes, self.trained_on = list(data.classes), data.hash
        if self.game.condition:
            self.game.condition.fit(data)
        if self.iteration == 0:
            self.game.initialize_frozen(data)
        for network in self.game.frozen.values():
            network.require_weights()

    def on_train_start(self) -> None:
        """Initialise a new run from its data. In a resumed run, reset the optimizers' hyperparameters.

        Lightning restores the optimizers with the hyperparameters of the checkpoint; those of the configuration replace
        them.
        """
        compat.disable_nvml_check(self.device)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.iteration == 0:
            torch.manual_seed(derive_seed(self.seed, "meet"))
            self.game.initialize_from_data(data)
            for name, average in self.ema.items():
                average.network.load_state_dict(self.network(name).state_dict())  # type: ignore[union-attr]
        for player, optimizer in zip(self.players.values(), self._optimizers()):
            player.set_numbers(optimizer.optimizer, self.images_seen)

    def training_step(self, batch: Batch, _: int) -> None:
        """Update each player that is due in this iteration."""
        seed_generators(derive_seed(self.seed, self.iteration, self.global_rank), self.device)
        self.iteration += 1
        self.global_batch_size = len(next(iter(batch.values()))) * self.trainer.world_size
        self.game.prepare(self.images_seen)
        for number in self.scheduled:
            number.set(self.images_seen)
        for (name, player), optimizer in zip(self.players.items(), self._optimizers()):
            if self.iteration % player.every == 0:
                with self._out_of_memory_advice(batch):
                    self.player_step(name, player, optimizer, batch)
                self._update_ema(name, player)
        self.images_seen += self.global_batch_size
        if self.max_images and self.images_seen >= self.max_images:
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the recipe, iteration, images seen, class names and the data's hash to a checkpoint."""
        checkpoint["hyper_parameters"] = self.recipe
        checkpoint["iteration"], checkpoint["images_seen"] = self.iteration, self.images_seen
        checkpoint["trained_on"] = {"classes": self.classes, "data": self.trained_on}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore iteration, images seen, class names and the data's hash."""
        self.iteration, self.images_seen = checkpoint["iteration"], checkpoint["images_seen"]
        self.classes, self.trained_on = list(checkpoint["trained_on"]["classes"]), checkpoint["trained_on"]["data"]

    # ---- Logging -----------------------------------------------------------------------------------------------------

    def log_scalar(self, name: str, value: float | Tensor) -> None:
        """Add a value of this iteration; the next row of scalars has the mean of the values since the row before.

        It takes less time than Lightning's `log`, and on a GPU it does not wait for the device.

        Args:
            name: logged name.
            value: a number, or a tensor of one element.
        """
        tensor = value.reshape(()) if isinstance(value, Tensor) else torch.full((), value, device=self.device)
        self.running_means.add("", {name: tensor})

    # ---- One player's update -----------------------------------------------------------------------------------------

    def player_step(self, name: str, player: Player, optimizer: Any, batch: Batch) -> None:
        """Update one player: losses, gradients, parameters.

        Args:
            name: the player's name.
            player: its settings.
            optimizer: Lightning's wrapper of its optimizer.
            batch: rows of the data on the device.
        """
        self._call_hook("on_before_zero_grad", optimizer.optimizer)
        losses, diagnostics, gradients = self._losses_and_gradients(name, player, batch)
        if not losses:  # no term of this player is active in this iteration
            return
        norm = self._update(name, player, optimizer, losses, gradients)
        self._check_skipped(batch)
        self.game.update_state()
        self.running_means.add(f"loss/{name}", losses)
        if name in self.log_next:
            self.log_next.discard(name)
            self.running_means.add("", {**diagnostics, f"gradient_norm/{name}": norm})

    def _losses_and_gradients(self, name: str, player: Player, batch: Batch) -> tuple[Losses, Losses, list[Tensor]]:
        """Compute the player's losses and the gradients of their sum, averaged over all processes.

        With `accumulate`, the batch is divided into micro-batches one after the other. Each micro-batch counts by its
        share of the images, so the losses and gradients are the means over the whole batch. With `repeat`, the batch is
        repeated first.
        """
        self._require_gradients(name)
        losses: Losses = {}
        diagnostics: Losses = {}
        for micro_batch, share in micro_batches(repeated(batch, player.repeat), player.accumulate):
            found, diagnostics = self._losses(name, player, micro_batch)
            found = {key: loss * share for key, loss in found.items()} if share < 1 else found
            self._backward(name, found)
            losses = {key: losses[key] + loss.detach() if key in losses else loss for key, loss in found.items()}
        gradients = self._gradients(name)
        distributed.all_reduce_mean(gradients)
        return losses, diagnostics, gradients

    def _gradients(self, name: str) -> list[Tensor]:
        return [parameter.grad for parameter in self.weights[name] if parameter.grad is not None]

    def _call_hook(self, hook: str, *arguments: Any) -> None:
        """Call a hook of Lightning wherever it is overridden."""
        for function in self.hooks.get(hook, ()):
            function(*arguments)

    def _require_gradients(self, name: str) -> None:
        """Let only this player's parameters require gradients, so no game has to detach anything, and clear them."""
        for other, parameters in self.weights.items():
            for parameter in parameters:
                parameter.requires_grad_(other == name)
        for parameter in self.weights[name]:
            parameter.grad = None

    def _losses(self, name: str, player: Player, batch: Batch) -> tuple[Losses, Losses]:
        """Compute the player's losses."""
        arguments = (name, batch, self.iteration // player.every, name in self.log_next)
        if player.unrolled:
            return functional_call(self.game, self._unrolled_weights(player.unrolled, batch), arguments)
        return self.game.player_losses(*arguments)

    def _backward(self, name: str, losses: Losses) -> None:
        """Add the gradients of the sum of the losses to those of the player's parameters.

        This is not Lightning's `manual_backward`: no loss is scaled here, and the hooks around it took as long as a
        small network. Autocast is off because the backward pass takes its precision from the forward pass.
        """
        if losses:
            total = sum(losses.values())
            self._call_hook("on_before_backward", total)
            with torch.autocast(self.device.type, enabled=False):
                torch.autograd.backward(total, inputs=self.weights[name])  # type: ignore[arg-type]
            self._call_hook("on_after_backward")

    def _update(self, name: str, player: Player, optimizer: Any, losses: Losses, gradients: list[Tensor]) -> Tensor:
        """Take the optimizer's step if losses and gradients are finite, then apply weight constraints.

        Returns:
            The norm of the whole gradient before clipping, a tensor [].
        """
        player.apply_schedule(optimizer, self.images_seen)
        if "on_before_optimizer_step" in self.hooks:
            self._call_hook("on_before_optimizer_step", optimizer.optimizer)
            gradients = self._gradients(name)
        norm = total_norm(gradients)
        # with several processes only the averaged gradient is the same everywhere, and all must decide alike
        checked = {} if self.trainer.world_size > 1 else losses
        if self.guard.check(name, optimizer.optimizer, checked, norm):
            if self.clips_by_itself:
                self.configure_gradient_clipping(optimizer.optimizer, player.clip, "norm")
            else:
                player.clip_(gradients, norm)
            self._step(optimizer)
            self.game.constrain(name)
        return norm

    def _step(self, optimizer: Any) -> None:
        """Take the optimizer's step."""
        compat.optimizer_step(self.trainer, optimizer.optimizer)

    def _update_ema(self, name: str, player: Player) -> None:
        if name in self.ema:
            images = self.images_seen + self.global_batch_size
            self.ema[name].update(self.network(name), images, self.global_batch_size * player.every)  # type: ignore[operator]

    def _check_skipped(self, batch: Batch) -> None:
        """End the run or repair buffers if steps were skipped.

        It is checked in every iteration on a CPU. On a GPU it is checked only when scalars are logged, because reading
        a count synchronises the device.
        """

        def samples() -> Tensor:
            return self.sample(self.game.sample_inputs(8, self.device), ema=False)

        checked = self.guard.consecutive and (self.device.type != "cuda" or self.iteration % self.log_every == 0)
        if checked and self.guard.raise_if_diverged(self.iteration, batch, samples):
            for name in self.players:
                average = dict(self.ema.items()).get(name)
                repair_buffers(self.network(name), average.network if average else None)  # type: ignore[arg-type]

    def _unrolled_weights(self, steps: int, batch: Batch) -> dict[str, Tensor]:
        """Return the critics' weights after `steps` more of their own steps on this batch, by their names in the game.
        The generator's loss is differentiated through these steps (Metz 2016, arXiv:1611.02163)."""
        unrolled: dict[str, Tensor] = {}
        for name in self._critics():
            unrolled |= self._unrolled_critic(name, steps, batch)
        return unrolled

    def _unrolled_critic(self, name: str, steps: int, batch: Batch) -> dict[str, Tensor]:
        player = self.players[name]
        optimizer = self._optimizers()[list(self.players).index(name)]
        weights = {f"{name}.{key}": weight for key, weight in self.network(name).named_parameters()}

        def loss(weights: dict[str, Tensor]) -> Tensor:
            losses, _ = functional_call(self.game, weights, (name, batch, self.iteration // player.every))
            return torch.stack(list(losses.values())).sum()

        project = self.game.loss_of(name).project
        return unrolled_weights(loss, weights, optimizer.optimizer, steps, player.clipped, project)

    @contextmanager
    def _out_of_memory_advice(self, batch: Batch) -> Iterator[None]:
        """Turn an out-of-memory error into a sentence that names a batch size that fits."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not memory.is_out_of_memory(error):
                raise
            raise UserError(memory.batch_size_advice(self, batch)) from error

    def _optimizers(self) -> list[Any]:
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]

    # ---- Sampling ----------------------------------------------------------------------------------------------------

    @contextmanager
    def ema_scope(self, ema: bool = True) -> Iterator[Game]:
        """Give the game in eval mode, without gradients, with the EMA networks in place of the trained ones.

        Args:
            ema: False gives the trained networks themselves.
        """
        trained, training = {name: self.network(name) for name in self.ema}, self.game.training
        self.game.eval()
        if ema:
            self._set_networks({name: average.network for name, average in self.ema.items()})
        try:
            with torch.no_grad():
                yield self.game
        finally:
            self._set_networks(trained)
            self.game.train(training)

    def _set_networks(self, networks: Mapping[str, Any]) -> None:
        for name, network in networks.items():
            setattr(self.game, name, network)

    def sample(self, batch: Batch, ema: bool = True, generate: Callable[[Game, Batch], Tensor] | None = None) -> Tensor:
        """Generate images.

        Args:
            batch: the generator's inputs, as `Game.sample_inputs` returns them, on the module's device.
            ema: whether to use the EMA networks where there are any.
            generate: a function to use in place of `Game.generate`.

        Returns:
            Images [B, C, H, W] in [-1, 1], float32.
        """
        inputs = {name: value.to(self.dtype) if value.is_floating_point() else value for name, value in batch.items()}
        with self.ema_scope(ema) as game:
            return (generate(game, inputs) if generate else game.generate(inputs)).float()


def repeated(batch: Batch, count: int) -> Batch:
    """Repeat the rows of a batch `count` times, one after the other."""
    return {name: torch.cat([rows] * count) for name, rows in batch.items()} if count > 1 else batch


def micro_batches(batch: Batch, count: int) -> Iterator[tuple[Batch, float]]:
    """Divide a batch into `count` micro-batches of nearly equal size, fewer if it has fewer images.

    Yields:
        A micro-batch, and its share of the images.
    """
    if count == 1:
        yield batch, 1.0
        return
    images = len(next(iter(batch.values())))
    bounds = [images * i // count for i in range(count + 1)]
    for start, end in pairwise(sorted(set(bounds))):
        yield {name: rows[start:end] for name, rows in batch.items()}, (end - start) / images

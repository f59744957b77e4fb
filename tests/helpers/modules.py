"""Modules and callbacks as users write them; `OAKLEAF_TRUST=helpers.modules` lets a configuration build them."""

from collections import Counter
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from oakleaf.games import Batch, Game
from oakleaf.gan import GAN


class LoggingGAN(GAN):
    """A GAN that logs by itself, in Lightning's way, and keeps its hyperparameters in Lightning's way."""

    def __init__(self, *args: Any, factor: float = 1.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.save_hyperparameters("factor")

    def training_step(self, batch: Batch, index: int) -> None:
        super().training_step(batch, index)
        self.log("mine/step", self.hparams["factor"] * self.iteration)
        self.log("mine/epoch", float(self.iteration), on_step=False, on_epoch=True)
        self.log_dict({"mine/both": float(self.iteration)}, on_step=True, on_epoch=True, prog_bar=True)


class HooksOfAGAN(GAN):
    """A GAN that overrides Lightning's hooks and clips its gradients itself."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.calls: list[str] = []

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.calls.append(f"step of {optimizer.param_groups[0]['name']}")

    def configure_gradient_clipping(self, optimizer: Any, gradient_clip_val: Any = None, *_: Any) -> None:
        self.clip_gradients(optimizer, gradient_clip_val=1e-6, gradient_clip_algorithm="norm")

    def optimizer_step(self, *_: Any, **__: Any) -> None:
        raise AssertionError("Lightning calls it with automatic optimization alone")


class Autoencoder(LightningModule):
    """A module that is no GAN, of somebody who does not know Oakleaf; Lightning optimizes it."""

    def __init__(self, width: int, pixels: int = 256, lr: float = 1e-3, seed: int = -1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.seed_received = seed
        self.encoder, self.decoder = nn.Linear(pixels, width), nn.Linear(width, pixels)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        x = batch["image"].flatten(1)
        noisy = x + 0.1 * torch.randn_like(x)
        loss = (self.decoder(torch.relu(self.encoder(noisy))) - x).square().mean()
        self.log("loss/reconstruction", loss, prog_bar=True)
        self.log("loss/epoch", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])


class Nothing(LightningModule):
    """A module whose constructor names nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(256, 1)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        return self.layer(batch["image"].flatten(1)).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


class OwnLoop(LightningModule):
    """A module that takes the game and the players, and trains them by a loop of its own."""

    def __init__(self, game: Game, players: Any) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.game, self.players_of_run = game, dict(players)
        game.roles = {name: player.role for name, player in self.players_of_run.items()}

    def configure_optimizers(self) -> Any:
        return [player.build(player.trained(self.game.parameters_of(n))) for n, player in self.players_of_run.items()]

    def training_step(self, batch: Batch, index: int) -> None:
        optimizers: Any = self.optimizers()
        for name, optimizer in zip(self.players_of_run, optimizers):
            losses, _ = self.game.player_losses(name, batch, index + 1)
            optimizer.zero_grad()
            self.manual_backward(torch.stack(list(losses.values())).sum())
            optimizer.step()


class Logs(Callback):
    """Logs in every way that a callback has."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        pl_module.log("callback/step", float(pl_module.iteration))
        pl_module.log_dict({"callback/dict": float(pl_module.iteration)})
        pl_module.log_scalar("callback/mean", float(pl_module.iteration))
        pl_module.log_scalar("callback/tensor", torch.tensor([float(pl_module.iteration)]))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        pl_module.log("callback/epoch", float(pl_module.iteration))


class Hooks(Callback):
    """Records the calls of the hooks around backward passes and optimizer steps."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.gradients: list[bool] = []

    def on_before_zero_grad(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        self.calls.append(f"zero {optimizer.param_groups[0]['name']}")

    def on_before_backward(self, trainer: Trainer, pl_module: Any, loss: Tensor) -> None:
        assert loss.requires_grad and loss.dim() == 0
        self.calls.append("before backward")

    def on_after_backward(self, trainer: Trainer, pl_module: Any) -> None:
        self.calls.append("after backward")

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        name = optimizer.param_groups[0]["name"]
        self.calls.append(f"step {name}")
        self.gradients.append(all(weight.grad is not None for weight in pl_module.network(name).parameters()))


class NoGradients(Callback):
    """Replaces every gradient by zeros, as new tensors."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        for group in optimizer.param_groups:
            for weight in group["params"]:
                weight.grad = torch.zeros_like(weight)


class Batches(Callback):
    """Counts the batches as Lightning reports them."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Batch, index: int) -> None:
        self.counts["start"] += 1

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Batch, index: int) -> None:
        assert set(batch) >= {"image"}
        self.counts["end"] += 1


class Falling(Callback):
    """Logs a value that falls until so many images were seen, and rises afterwards."""

    def __init__(self, until: int) -> None:
        self.until = until

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        pl_module.log("mine/falling", float(abs(self.until - pl_module.images_seen)))

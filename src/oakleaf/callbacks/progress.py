"""A progress bar in images."""

import sys
from typing import Any

from lightning.pytorch import Callback, Trainer
from tqdm import tqdm

from oakleaf.gan import GAN


class Progress(Callback):
    """Show one bar for the whole run: images seen, images per second, time left, the adversarial losses, and what
    `self.log(..., prog_bar=True)` has logged.

    Without a terminal it prints one line every half minute.
    """

    def __init__(self) -> None:
        self.bar: tqdm[Any] | None = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, *_: Any) -> None:  # type: ignore[override]
        if not trainer.is_global_zero:
            return
        if self.bar is None:
            self.bar = self._open(pl_module)
        self.bar.update(pl_module.global_batch_size)
        if pl_module.iteration % pl_module.log_every == 0:
            self.bar.set_postfix_str(_postfix(trainer, pl_module), refresh=False)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        self._close()

    def _open(self, module: GAN) -> "tqdm[Any]":
        return tqdm(
            total=module.total_images,
            initial=module.images_seen - module.global_batch_size,
            desc="training",
            unit="img",
            unit_scale=True,
            dynamic_ncols=True,
            mininterval=0.5 if sys.stderr.isatty() else 30,
        )

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def _postfix(trainer: Trainer, module: Any) -> str:
    """The adversarial losses, and what was logged by `self.log(..., prog_bar=True)`."""
    logged = [f"{name} {value:.3g}" for name, value in trainer.progress_bar_metrics.items()]
    return "  ".join(filter(None, [_losses(getattr(module, "last_scalars", {})), *logged]))


def _losses(scalars: dict[str, float]) -> str:
    """The adversarial losses by the first letter of their player: `loss D 1.27  G 0.84`."""
    losses = {name.split("/")[1]: value for name, value in scalars.items() if name.endswith("/adversarial")}
    return "loss " + "  ".join(f"{player[0].upper()} {value:.3g}" for player, value in losses.items()) if losses else ""

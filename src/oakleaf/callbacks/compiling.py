"""Making a player's turn one graph, when that pays."""

import logging
import time
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Timer
from torch.nn.modules.batchnorm import _BatchNorm

from oakleaf.errors import UserError
from oakleaf.games import Game
from oakleaf.gan import GAN
from oakleaf.losses.penalties import GradientPenalty

log = logging.getLogger(__name__)

Choice = bool | Literal["auto", "cuda_graphs"]

WARM, TIMED = 20, 40  # turns before the clock starts (kernels are chosen in them), and until it stops
WORTH = 600.0  # seconds that the rest of the run must take: graphs take up to a minute to make


class Compiling(Callback):
    """Replaces each player's turn (`Game.paid`: latents, networks, objective, penalties) by one compiled graph.

    true: from the first turn; cuda_graphs: the same, its kernels replayed as one launch; auto: on a GPU, once it is
    known that ten minutes are left. On a CPU auto leaves things as they are, for there graphs were slower
    (docs/performance.md). Random numbers are drawn as without, so a run is the same either way, up to rounding. Turns
    that look ahead (`unrolled`), those with something to see, one in `log_every`, and those of a critic with
    BatchNorm whose slope is penalised, are played without.
    """

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.began: tuple[int, float] | None = None  # turn and time

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.first = pl_module.iteration
        if self.choice not in (False, "auto"):
            self.compile(pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, *_: Any) -> None:  # type: ignore[override]
        if self.choice != "auto" or pl_module.device.type != "cuda":
            return
        played = pl_module.iteration - self.first
        if played in (WARM, TIMED):
            torch.cuda.synchronize()
            now = time.perf_counter()
            if self.began and _left(trainer, pl_module, *self.began, now) > WORTH:
                log.info("compiling the players' turns: the next one takes a while (compile=false for none of it)")
                self.compile(pl_module)
            self.began = pl_module.iteration, now

    def compile(self, module: GAN) -> None:
        options: dict[str, Any] = {"fallback_random": True}
        if self.choice == "cuda_graphs":
            options["triton.cudagraphs"] = True
        # a way back that can't be compiled fails as its way forth is, not when gradients are asked for
        torch._functorch.config.force_non_lazy_backward_lowering = True
        graph = torch.compile(module.game.losses, dynamic=False, options=options)

        def play(*asked: Any) -> Any:
            if self.choice == "cuda_graphs":
                torch.compiler.cudagraph_mark_step_begin()
            try:
                return graph(*asked)
            except UserError:
                raise
            except Exception as error:
                if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                    raise
                cause = getattr(error, "inner_exception", error)
                reason = ": ".join([type(cause).__name__, *str(cause).strip().splitlines()[:1]])
                if self.choice != "auto":
                    raise UserError(f"compile={self.choice}: {reason}; compile=false goes on without") from error
                log.warning("not compiled: %s", reason)
                module.game.compiled = {}
                return module.game.losses(*asked)

        module.game.compiled = {name: play for name in module.players if _is_one_graph(module.game, name)}
        if apart := set(module.players) - set(module.game.compiled):
            log.info("not compiled: the turn of %s, whose penalty goes through BatchNorm", ", ".join(sorted(apart)))


def _is_one_graph(game: Game, player: str) -> bool:
    """Whether the player's turn can be: functorch, by which slopes are traced, refuses BatchNorm's running means."""
    penalised = any(isinstance(term, GradientPenalty) for term in game.terms_of(player).values())
    return not penalised or not any(isinstance(layer, _BatchNorm) for layer in game.get_submodule(player).modules())


def _left(trainer: Trainer, module: GAN, iteration: int, then: float, now: float) -> float:
    """Seconds that the rest of the run will take, at the pace since that turn, `trainer.max_time` at most; endless runs
    take for ever."""
    clocks = [callback.time_remaining() for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore
    bounds = [seconds for seconds in clocks if seconds is not None]
    if module.total_images is not None:
        bounds.append(
            (module.total_images - module.images_seen)
            / module.global_batch_size
            * (now - then)
            / max(1, module.iteration - iteration)
        )
    return min(bounds, default=float("inf"))

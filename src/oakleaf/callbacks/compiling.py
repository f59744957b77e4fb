"""Compiling the players' losses with `torch.compile`.

What is compiled. `Game.losses` of one player: latents, networks, objective, penalties and further terms, which together
become one graph. The backward pass of the sum of these losses and the optimizer's step stay outside.

Double backward. A gradient penalty contains the gradient of the discriminator's score with respect to its input, and
the training step then needs the gradient of that gradient with respect to the weights. AOTAutograd, which
`torch.compile` uses, derives the backward pass of a graph when it compiles the graph; that backward pass cannot be
differentiated again. `oakleaf.round.output_and_input_gradient` therefore computes the input gradient by
`torch.func.grad` while a graph is traced: Dynamo records this transform as a part of the forward pass, and one ordinary
backward pass is left.

What is not compiled:

- A player whose discriminator has BatchNorm and a gradient penalty: `torch.func.grad` refuses the in-place updates of
  BatchNorm's running statistics.
- Iterations with diagnostics, one in `log_every`: they also return D(x), accuracies and more, which would need a second
  graph for each player.
- Iterations that unroll the discriminator (`optim.<player>.unrolled`): the discriminator's own steps are differentiated
  there, which again is a double backward. `Game.forward` turns the graphs off.
"""

import logging
import time
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Timer

from oakleaf import compat
from oakleaf.errors import UserError
from oakleaf.games import Game
from oakleaf.gan import GAN
from oakleaf.losses.penalties import GradientPenalty
from oakleaf.round import BATCH_NORMS

log = logging.getLogger(__name__)

Choice = bool | Literal["auto", "cuda_graphs"]

WARMUP_ITERATIONS = 20  # before the clock starts; cuDNN chooses its kernels in them
DECISION_ITERATION = 40  # the clock stops, and `auto` decides
MIN_SECONDS_LEFT = 600.0  # of the run, for `auto` to compile: compilation takes up to a minute


class Compiling(Callback):
    """Replace `Game.losses` of each player by a compiled graph.

    The graphs draw the same random numbers as the uncompiled functions, so a run is the same either way up to rounding.
    The module's text says which iterations are not compiled, and why.

    Args:
        choice: true: compile from the first iteration on; "cuda_graphs": the same, with CUDA graphs, which launch all
            kernels of a graph at once; "auto": compile on a GPU, as soon as the measured speed shows that at least ten
            minutes are left, and never on a CPU, where compiled graphs were slower (docs/performance.md); false: never.
    """

    needs_gan = True

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.clock: tuple[int, float] | None = None  # iteration and time at which the clock started

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Compile now, unless the choice is `auto` or false."""
        self.first_iteration = pl_module.iteration
        if self.choice not in (False, "auto"):
            self.compile(pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: GAN, *_: Any) -> None:  # type: ignore[override]
        """Measure the speed, and compile if `auto` finds that enough of the run is left."""
        if self.choice != "auto" or pl_module.device.type != "cuda":
            return
        if pl_module.iteration - self.first_iteration in (WARMUP_ITERATIONS, DECISION_ITERATION):
            torch.cuda.synchronize()
            now = time.perf_counter()
            if self.clock and _seconds_left(trainer, pl_module, *self.clock, now) > MIN_SECONDS_LEFT:
                log.info(
                    "compiling the players' losses; the next iteration takes a while (compile=false: no compiling)"
                )
                self.compile(pl_module)
            self.clock = pl_module.iteration, now

    def compile(self, module: GAN) -> None:
        """Put a compiled `Game.losses` into `Game.compiled` for each player that can be compiled.

        Compilation itself happens at a player's first iteration. If it fails there, `auto` continues without graphs.

        Raises:
            UserError: at that iteration, if compilation was requested and fails.
        """
        options: dict[str, Any] = {"fallback_random": True}
        if self.choice == "cuda_graphs":
            options["triton.cudagraphs"] = True
        compat.lower_backward_with_forward()
        graph = torch.compile(module.game.losses, dynamic=False, options=options)

        def losses(*arguments: Any) -> Any:
            if self.choice == "cuda_graphs":
                torch.compiler.cudagraph_mark_step_begin()
            try:
                return graph(*arguments)
            except UserError:
                raise
            except Exception as error:
                if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                    raise
                cause = getattr(error, "inner_exception", error)
                reason = ": ".join([type(cause).__name__, *str(cause).strip().splitlines()[:1]])
                if self.choice != "auto":
                    message = f"compile={self.choice} failed: {reason}; compile=false trains without compilation"
                    raise UserError(message) from error
                log.warning("not compiled: %s", reason)
                module.game.compiled = {}
                return module.game.losses(*arguments)

        module.game.compiled = {name: losses for name in module.players if _can_compile(module.game, name)}
        if uncompiled := set(module.players) - set(module.game.compiled):
            names = ", ".join(sorted(uncompiled))
            log.info("not compiled: %s, whose gradient penalty goes through BatchNorm", names)


def _can_compile(game: Game, player: str) -> bool:
    """Return whether the player has no gradient penalty through BatchNorm, which `torch.func.grad` refuses."""
    penalised = any(isinstance(term, GradientPenalty) for term in game.terms_of(player).values())
    return not penalised or not any(isinstance(layer, BATCH_NORMS) for layer in game.get_submodule(player).modules())


def _seconds_left(trainer: Trainer, module: GAN, iteration: int, then: float, now: float) -> float:
    """Return how long the rest of the run takes at the speed measured since `iteration`.

    `trainer.max_time` is an upper bound; infinity if the run has no end.
    """
    timers = [callback.time_remaining() for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore
    bounds = [seconds for seconds in timers if seconds is not None]
    if module.total_images is not None:
        iterations_left = (module.total_images - module.images_seen) / module.global_batch_size
        bounds.append(iterations_left * (now - then) / max(1, module.iteration - iteration))
    return min(bounds, default=float("inf"))

"""From a recipe's callbacks to instances: Oakleaf's own, Lightning's, and those of packages that the user trusts."""

import inspect
import logging
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, ProgressBar

from oakleaf.builder.instantiate import instantiate_group
from oakleaf.config.allowlist import locate
from oakleaf.errors import UserError
from oakleaf.runtime.monitors import Monitors
from oakleaf.runtime.run_dir import LAST

log = logging.getLogger(__name__)

Nodes = Mapping[str, Any]

AVERAGING = (
    "it averages the weights of all players, and a GAN samples from an average of the generator alone: "
    "optim.ema.half_life= (in images seen)"
)
ALTERNATIVES = {  # Lightning's callbacks that make no sense for a GAN, and what to use
    "StochasticWeightAveraging": AVERAGING,
    "WeightAveraging": AVERAGING,
    "EMAWeightAveraging": AVERAGING,
    "GradientAccumulationScheduler": "each player accumulates by itself: optim.<player>.accumulate=2",
    "LearningRateFinder": "it needs a single loss; a sweep tries rates: -m optim.generator.lr=1e-4,2e-4,4e-4",
    "BatchSizeFinder": "it needs a single loss; where memory does not suffice, the error names a batch size that fits",
    "SpikeDetection": "it needs a single loss; nonfinite.max_consecutive= and nonfinite.max_rollbacks= guard a GAN",
}


def check_callbacks(nodes: Nodes) -> None:
    """Check that no callback of Lightning is among them that makes no sense for a GAN.

    Args:
        nodes: the callbacks of a recipe, by name.

    Raises:
        UserError: there is one.
    """
    for name, node in nodes.items():
        kind = locate(node["_target_"], f"callbacks.{name}._target_") if node else None
        bases = inspect.getmro(kind) if inspect.isclass(kind) else ()
        for base in bases:
            if base.__module__.startswith("lightning.") and (reason := ALTERNATIVES.get(base.__name__)):
                raise UserError(f"callbacks.{name}: {base.__name__} does not work with a GAN: {reason}")
        if ModelCheckpoint in bases:
            for key in ("every_n_train_steps", "train_time_interval"):
                if node.get(key):
                    raise UserError(
                        f"callbacks.{name}.{key} does not work with a GAN; callbacks.checkpoint.keep_every=10000 keeps "
                        "a checkpoint every 10,000 images, and monitor= those with the best value"
                    )


def build_callbacks(nodes: Nodes, folder: str, with_bar: bool, for_gan: bool) -> list[Callback]:
    """Build the callbacks of a run.

    Args:
        nodes: the callbacks of a recipe, by name.
        folder: the run's folder.
        with_bar: whether there is a progress bar: one of the nodes that is Lightning's, or else `progress`.
        for_gan: whether a GAN is trained. Otherwise callbacks with `needs_gan = True` are left out.

    Returns:
        Oakleaf's `Monitors` first, then the nodes in their order.

    Raises:
        UserError: a node is none of Lightning's callbacks, or its constructor refuses a value.
    """
    classes = {name: locate(node["_target_"], f"callbacks.{name}._target_") for name, node in nodes.items() if node}
    bars = [name for name, kind in classes.items() if inspect.isclass(kind) and issubclass(kind, ProgressBar)]
    if bars or not with_bar:
        classes.pop("progress", None)
    if left_out := [name for name, kind in classes.items() if getattr(kind, "needs_gan", False) and not for_gan]:
        log.info("left out, as they need the module to be a GAN: callbacks.%s", ", callbacks.".join(left_out))
    kept = {name: with_defaults(nodes[name], kind, folder) for name, kind in classes.items() if name not in left_out}
    return [Monitors(), *instantiate_group("callbacks", kept, Callback)]


def with_defaults(node: Nodes, kind: type, folder: str) -> Nodes:
    """Return a node with the defaults of a run of Oakleaf, where Lightning's own mean a validation loop.

    `EarlyStopping` and `ModelCheckpoint` check their value when it is logged, and not at the end of an epoch, unless
    `check_on_train_epoch_end` or `save_on_train_epoch_end` say so. Checkpoints lie beside the run's own.

    Raises:
        UserError: two callbacks would write the same file.
    """
    defaults: dict[str, Any] = {}
    if node.get("save_last") and node.get("dirpath") is None:
        raise UserError(f"{kind.__name__}(save_last=true): callbacks.checkpoint saves last.ckpt in this folder")
    if inspect.isclass(kind) and issubclass(kind, EarlyStopping):
        defaults = {"check_on_train_epoch_end": False}
    elif inspect.isclass(kind) and issubclass(kind, ModelCheckpoint):
        defaults = {"dirpath": f"{folder}/{LAST.parent}"}
        if node.get("monitor"):
            defaults |= {"save_on_train_epoch_end": False, "filename": "{images}"}
    parameters = inspect.signature(kind).parameters
    return {**node, **{key: value for key, value in defaults.items() if key in parameters and node.get(key) is None}}

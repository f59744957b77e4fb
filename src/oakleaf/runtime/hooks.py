"""Lightning's hooks around a backward pass and an optimizer's step, for a module that calls torch itself.

Lightning calls these hooks in `manual_backward` and in its wrapper of an optimizer, for every callback, whether it does
anything there or not; for a small network that takes longer than the arithmetic. Here it is found once, at the start of
the training, which callbacks override a hook, and only these are called.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

log = logging.getLogger(__name__)

HOOKS = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")
AUTOMATIC_ONLY = ("backward", "optimizer_step", "optimizer_zero_grad")  # Lightning's own optimization alone calls them

Hooks = dict[str, list[Callable[..., None]]]


def overridden_hooks(trainer: Trainer, module: LightningModule) -> Hooks:
    """Return the functions to call for each hook: those of callbacks in their order, then the module's own.

    Args:
        trainer: the run's Trainer.
        module: the run's module. Its methods that only Lightning's own optimization calls are named in a warning.

    Returns:
        By name of the hook, functions of the hook's last arguments: `loss`, `optimizer` or none. Hooks that nobody
        overrides are not there.
    """
    hooks: Hooks = {}
    for name in HOOKS:
        functions: list[Callable[..., None]] = [
            partial(getattr(callback, name), trainer, module)
            for callback in trainer.callbacks  # type: ignore[attr-defined]
            if is_overridden(callback, name, Callback)
        ]
        if is_overridden(module, name, LightningModule):
            functions.append(getattr(module, name))
        if functions:
            hooks[name] = functions
    for name in AUTOMATIC_ONLY:
        if is_overridden(module, name, LightningModule):
            log.warning(
                "%s.%s is not called, as a GAN takes its steps itself; %s are called",
                *(type(module).__name__, name, ", ".join(HOOKS)),
            )
    return hooks


def is_overridden(instance: Any, name: str, base: type) -> bool:
    """Return whether an instance, by its class or by itself, has another method of this name than the base class."""
    return getattr(getattr(instance, name), "__func__", None) is not getattr(base, name)

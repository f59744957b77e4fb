"""Work-arounds for other libraries: private functions, patches, and changes of the environment. All are here.

Each entry states the library and version that needs it, the reason, and has a test in `tests/test_compat.py` that fails
when the entry can be removed. This module imports nothing of Oakleaf, and torch and Lightning only inside functions,
because the command line imports it before it has decided that it needs them.
"""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

HYDRA_FULL_ERROR = "HYDRA_FULL_ERROR"


# ---- Hydra 1.3 -------------------------------------------------------------------------------------------------------


@contextmanager
def hydra_raises_errors() -> Iterator[str | None]:
    """Make Hydra raise its errors instead of printing them and exiting, so that one sentence can be printed.

    Hydra 1.3 has no other switch than the environment variable HYDRA_FULL_ERROR. Gives the user's own value of it.
    """
    users = os.environ.get(HYDRA_FULL_ERROR)
    os.environ[HYDRA_FULL_ERROR] = "1"
    try:
        yield users
    finally:
        set_environment(HYDRA_FULL_ERROR, users)


def set_environment(name: str, value: str | None) -> None:
    """Set an environment variable, or remove it where the value is None."""
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


@contextmanager
def second_hydra() -> Iterator[None]:
    """Allow `hydra.compose` inside a command that Hydra runs.

    Hydra 1.3 holds one global state and refuses to be initialised twice; the command's own is put aside and restored.
    """
    from hydra.core.global_hydra import GlobalHydra

    held = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().clear()
        if held:
            GlobalHydra.instance().initialize(held)


# ---- Lightning 2.6 ---------------------------------------------------------------------------------------------------


@contextmanager
def hide_packages(packages: set[str]) -> Iterator[None]:
    """Import torchmetrics as if some packages were not installed.

    Lightning 2.6 imports torchmetrics 1.9, which imports matplotlib and scipy only to be ready for plots, in every
    process; that takes longer than importing torch.
    """
    from lightning_utilities.core.imports import RequirementCache

    original, absent = RequirementCache.__bool__, packages - sys.modules.keys()
    RequirementCache.__bool__ = lambda cache: cache.requirement not in absent and original(cache)  # type: ignore
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None: importing it raises ImportError
    try:
        yield
    finally:
        RequirementCache.__bool__ = original  # type: ignore[method-assign]
        for name in absent:
            del sys.modules[name]


def optimizer_step(trainer: Any, optimizer: Any) -> None:
    """Take an optimizer's step and count it as Lightning does (`Trainer.global_step`), without Lightning's hooks.

    Lightning 2.6's `LightningOptimizer.step` calls closures, the precision plugin and several hooks, which takes longer
    than the step of a small network. Checkpoints need the count, which only a private object keeps.
    """
    progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    progress.increment_ready()
    optimizer.step()
    progress.increment_completed()


def logged_metrics(trainer: Any) -> dict[str, Any]:
    """Values that `log` of modules and callbacks has recorded in this step, or at the end of an epoch in that epoch.

    Lightning 2.6's public dictionaries, such as `Trainer.callback_metrics`, also keep the values of earlier steps.
    """
    return dict(trainer._logger_connector.metrics["callback"])


def disable_nvml_check(device: Any) -> None:
    """On a CPU, keep each optimizer step from opening the GPU driver's library.

    Lightning 2.6 sets PYTORCH_NVML_BASED_CUDA_CHECK=1, with which torch's fused optimizers ask NVML in every step.
    """
    if device.type == "cpu":
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"


def silence_lightning() -> None:
    """Show only Lightning's warnings, and not those that are wrong for this program."""
    import lightning.pytorch  # noqa: F401  # sets its log level when it is imported

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.callbacks.model_summary").setLevel(logging.INFO)  # whoever adds it reads it
    for message in (
        ".*smaller than the logging interval.*",  # rows are logged over images, not per epoch
        ".*your dataloader is not resumable.*",  # ours resumes by the iteration
        ".*isinstance.treespec, LeafSpec.*",  # inside Lightning
        ".*in eval mode at the start of training.*",  # the EMA networks always are
    ):
        warnings.filterwarnings("ignore", message=message)


# ---- torch 2.15 ------------------------------------------------------------------------------------------------------


def foreach_norm(tensors: list[Any]) -> list[Any]:
    """L2 norms of many tensors in few kernels. torch has no public name for its `foreach` functions."""
    import torch

    return list(torch._foreach_norm(tensors))


def foreach_mul_(tensors: list[Any], factor: Any) -> None:
    """Multiply many tensors in place by one factor, a number or a tensor []."""
    import torch

    torch._foreach_mul_(tensors, factor)


def foreach_lerp_(tensors: list[Any], ends: list[Any], weight: float) -> None:
    """Interpolate many tensors in place towards others: `t + weight * (end - t)`."""
    import torch

    torch._foreach_lerp_(tensors, ends, weight)


def foreach_copy_(tensors: list[Any], sources: list[Any]) -> None:
    """Copy many tensors into others."""
    import torch

    torch._foreach_copy_(tensors, sources)


def cpu_has_bf16_instructions() -> bool:
    """Whether this CPU has instructions for bfloat16. torch 2.15 knows it by private functions alone."""
    import torch

    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)


def lower_backward_with_forward() -> None:
    """Make `torch.compile` compile the backward graph together with the forward graph.

    torch 2.15 compiles it at the first backward call, where a failure cannot be answered by running eagerly.
    """
    import torch

    torch._functorch.config.force_non_lazy_backward_lowering = True


def grid_sample_has_second_derivatives() -> bool:
    """Whether torch can differentiate `grid_sample` twice, which gradient penalties need: not in 2.11, but in 2.15."""
    import torch

    return tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 15)


def shutdown_workers(loader: Any) -> None:
    """End the worker processes of a `DataLoader` with persistent workers.

    torch 2.15 ends them only in the iterator's destructor; at interpreter exit that waits five seconds for each worker.
    """
    iterator = loader._iterator
    if iterator is not None and hasattr(iterator, "_shutdown_workers"):
        iterator._shutdown_workers()
    loader._iterator = None

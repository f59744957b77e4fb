"""What this machine can do."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from oakleaf.errors import UserError, first_line


def import_torch() -> None:
    """Import torch and what stands on it: seconds, after all that needs none of it.

    Raises:
        UserError: torch and torchvision do not belong together; a library that needs both would fail in the midst of it.
    """
    try:
        import torchvision  # noqa: F401
    except (RuntimeError, ImportError, OSError) as error:
        reason = first_line(error)
        raise UserError(
            f"torchvision does not fit this torch ({reason}); install both from the same place: "
            "pip install --force-reinstall torch torchvision"
        ) from error
    with _hidden({"matplotlib", "scipy"}):
        import torchmetrics  # noqa: F401


@contextmanager
def _hidden(packages: set[str]) -> Iterator[None]:
    """As if these were not installed. Lightning imports torchmetrics, which imports them to be ready to plot and to
    mend an old function, which together takes longer than torch itself, in every process."""
    from lightning_utilities.core.imports import RequirementCache

    met, absent = RequirementCache.__bool__, packages - sys.modules.keys()
    RequirementCache.__bool__ = lambda options: options.requirement not in absent and met(options)  # type: ignore
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None: can't be imported
    try:
        yield
    finally:
        RequirementCache.__bool__ = met  # type: ignore[method-assign]
        for name in absent:
            del sys.modules[name]


def best_precision(accelerator: str) -> str:
    """bf16-mixed where the device has instructions for it: autocast of products, weights stay fp32."""
    import torch

    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if accelerator in ("auto", "cpu") and not torch.backends.mps.is_available():
        has = any(getattr(torch.cpu, name, bool)() for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
        return "bf16-mixed" if has else "32-true"
    return "32-true"


def resolve_device(name: str) -> str:
    """The device of that name; auto: a GPU if there is one.

    Raises:
        UserError: it is not on this machine.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={name}: not on this machine; device=auto takes what is there") from error
    return name

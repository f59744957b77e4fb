"""Import torch, and choose a device."""

from typing import Any

from oakleaf import compat
from oakleaf.errors import UserError

SLOW = {"matplotlib", "scipy", "torchvision", "torch_fidelity"}  # packages that torchmetrics imports if they are there


def import_torch(options: Any = None) -> None:
    """Import torch and Lightning. It takes seconds, so it comes after all that does not need them.

    Lightning imports torchmetrics, which would import torchvision and torch-fidelity; they are left to who uses them.

    Args:
        options: the command's options; if one names a class of torchmetrics, torchmetrics gets all that it looks for.
    """
    hidden = {"matplotlib", "scipy"} if "torchmetrics." in str(options) else SLOW
    with compat.hide_packages(hidden):
        import torchmetrics  # noqa: F401
    compat.silence_lightning()


def resolve_device(name: str) -> str:
    """Return the device of this name; "auto" is a GPU if there is one, else the CPU.

    Raises:
        UserError: this machine does not have it.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={name}: not on this machine; device=auto takes what is there") from error
    return name

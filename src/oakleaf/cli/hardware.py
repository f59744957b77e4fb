"""Import torch, and choose a device."""

from oakleaf import compat
from oakleaf.errors import UserError, first_line


def import_torch() -> None:
    """Import torch, torchvision and Lightning. It takes seconds, so it comes after all that does not need them.

    Raises:
        UserError: torch and torchvision do not fit together; a library that needs both would fail later.
    """
    try:
        import torchvision  # noqa: F401
    except (RuntimeError, ImportError, OSError) as error:
        reason = first_line(error)
        raise UserError(
            f"torchvision does not fit this torch ({reason}); install both from the same place: "
            "pip install --force-reinstall torch torchvision"
        ) from error
    with compat.hide_packages({"matplotlib", "scipy"}):
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

"""What this machine can do."""

from oakleaf.errors import Mistake


def matching_pair() -> None:
    """Make sure that torch and torchvision belong together, before a library that needs both fails in the midst of it.

    Raises:
        Mistake: they do not.
    """
    try:
        import torchvision  # noqa: F401
    except (RuntimeError, ImportError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise Mistake(
            f"torchvision does not fit this torch ({reason}); install both from the same place: "
            "pip install --force-reinstall torch torchvision"
        ) from error


def best_precision(accelerator: str) -> str:
    """bf16-mixed where the device has instructions for it: autocast of products, weights stay fp32."""
    import torch

    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if accelerator in ("auto", "cpu") and not torch.backends.mps.is_available():
        has = any(getattr(torch.cpu, name, bool)() for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
        return "bf16-mixed" if has else "32-true"
    return "32-true"


def there(name: str) -> str:
    """The device of that name; auto: a GPU if there is one.

    Raises:
        Mistake: it is not on this machine.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise Mistake(f"device={name}: not on this machine; device=auto takes what is there") from error
    return name

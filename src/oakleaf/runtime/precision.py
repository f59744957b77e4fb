"""The precision that a device is fast in."""

from oakleaf import compat


def best_precision(accelerator: str) -> str:
    """Return Lightning's name of the best precision: bf16-mixed where the device has instructions for it, else 32-true.

    bf16-mixed is autocast: products are in bfloat16, weights stay in float32.

    Args:
        accelerator: Lightning's name of the accelerator: auto, gpu, cuda, cpu, ...
    """
    import torch

    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if accelerator in ("auto", "cpu") and not torch.backends.mps.is_available():
        return "bf16-mixed" if compat.cpu_has_bf16_instructions() else "32-true"
    return "32-true"

"""What this machine can do."""


def best_precision(accelerator: str) -> str:
    """bf16-mixed where the device has instructions for it: autocast of products, weights stay fp32."""
    import torch

    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if accelerator in ("auto", "cpu") and not torch.backends.mps.is_available():
        has = any(getattr(torch.cpu, name, bool)() for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
        return "bf16-mixed" if has else "32-true"
    return "32-true"

"""What a configuration may compute: `${times:${data.channels},${model.game.packing}}`. Nothing here imports torch."""

from collections.abc import Sequence

from omegaconf import OmegaConf

from oakleaf.errors import UserError
from oakleaf.runtime.precision import best_precision
from oakleaf.runtime.run_dir import run_dir


def register() -> None:
    """Register Oakleaf's resolvers with OmegaConf.

    The two resolvers of sweeps are registered by the Hydra plugin (`hydra_plugins.oakleaf_sweepers`).
    """
    OmegaConf.register_new_resolver("run_dir", run_dir, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("best_precision", best_precision, replace=True)
    OmegaConf.register_new_resolver("times", times, replace=True)
    OmegaConf.register_new_resolver("divide", divide, replace=True)


def times(*factors: int | None) -> int | None:
    """Return the product; None, for a value that is not known yet, gives None."""
    product = 1
    for factor in factors:
        if factor is None:
            return None
        if not isinstance(factor, int):
            raise UserError(f"times: {factor} is no whole number")
        product *= factor
    return product


def divide(size: int | Sequence[int] | None, by: int) -> int | list[int] | None:
    """Divide a size, one number or two, rounding down, to 1 at least; None, for an unknown size, gives None."""
    if size is None or isinstance(size, int):
        return size if size is None else max(1, size // by)
    return [max(1, side // by) for side in size]

"""What a configuration may compute: `${times:${data.channels},${model.game.packing}}`. Nothing here imports torch."""

from omegaconf import OmegaConf

from oakleaf.cli.machine import best_precision
from oakleaf.folders import run_folder


def register() -> None:
    """Teach OmegaConf our resolvers."""
    OmegaConf.register_new_resolver("run_folder", run_folder, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("best_precision", best_precision, replace=True)
    OmegaConf.register_new_resolver("times", times, replace=True)


def times(*factors: int | None) -> int | None:
    """Their product; null, for what is not known yet, stays null."""
    product = 1
    for factor in factors:
        if factor is None:
            return None
        product *= factor
    return product

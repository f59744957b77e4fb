"""What a configuration may compute: `${times:${data.channels},${model.game.packing}}`. Nothing here imports torch."""

from collections.abc import Sequence

from omegaconf import OmegaConf

from oakleaf.cli.hardware import best_precision
from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import run_dir
from oakleaf.sweeps.devices import parallel_jobs
from oakleaf.sweeps.names import sweep_name


def register() -> None:
    """Teach OmegaConf our resolvers."""
    OmegaConf.register_new_resolver("run_dir", run_dir, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("sweep_name", sweep_name, replace=True)
    OmegaConf.register_new_resolver("parallel_jobs", parallel_jobs, replace=True)
    OmegaConf.register_new_resolver("best_precision", best_precision, replace=True)
    OmegaConf.register_new_resolver("times", times, replace=True)
    OmegaConf.register_new_resolver("part", part, replace=True)


def times(*factors: int | None) -> int | None:
    """Their product; null, for what is not known yet, stays null."""
    product = 1
    for factor in factors:
        if factor is None:
            return None
        if not isinstance(factor, int):
            raise UserError(f"times: {factor} is no whole number")
        product *= factor
    return product


def part(size: int | Sequence[int] | None, by: int) -> int | list[int] | None:
    """A size, one number or two, divided; what is left over is dropped; null, for what is not known yet, stays null."""
    if size is None or isinstance(size, int):
        return size if size is None else size // by
    return [side // by for side in size]

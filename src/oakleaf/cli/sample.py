"""python sample.py: from a checkpoint to images."""

import logging
from typing import Any

from omegaconf import DictConfig, OmegaConf

from oakleaf.cli.hardware import import_torch, resolve_device
from oakleaf.cli.main import run_command
from oakleaf.cli.real_data import real_data
from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import atomic_write, make_output_dir

log = logging.getLogger(__name__)

SHOWN = 256  # images on grid.png at most


def main() -> None:
    """Run the command."""
    run_command("sample", sample)


def sample(config: DictConfig) -> None:
    """Generate images, and write `grid.png` and `samples.npy` into the folder `out`.

    samples.npy holds uint8 [N, H, W, C] for images, float32 [N, 2] for points; uint16 or float32, in the values of the
    pictures, if these have more than 8 bits.
    """
    if OmegaConf.is_missing(config, "checkpoint"):
        raise UserError("checkpoint= is missing: name a run's folder or a checkpoint file")
    import_torch()
    from oakleaf.builder.instantiate import instantiate_allowed
    from oakleaf.builder.load import gan_from_checkpoint
    from oakleaf.image_grid import are_points, render
    from oakleaf.runtime.checkpoint_io import read_checkpoint
    from oakleaf.sampling.conditions import requested_condition
    from oakleaf.sampling.latents import sample_in_batches
    from oakleaf.sampling.stored import sample_rows

    options: Any = OmegaConf.to_container(config, resolve=True)
    _validate(options)
    content = read_checkpoint(options["checkpoint"])
    module = gan_from_checkpoint(content).to(resolve_device(options["device"]))
    mode = instantiate_allowed(options["mode"])
    mode.truncation = options["truncation"]
    mode.set_data(lambda: real_data(content, options["split"], options["root"])[0])
    with module.ema_scope(options["ema"]) as game:
        inputs, columns = mode(game, options["seed"])
    if (condition := options["condition"]) is not None:
        if mode.chooses_conditions and module.game.condition is not None:
            raise UserError(f"condition={condition}: this mode shows all conditions; leave it out, or use another mode")
        key, rows = requested_condition(module, condition, len(next(iter(inputs.values()))))
        inputs[key] = rows
    images = sample_in_batches(module, inputs, options["ema"], mode.generate)
    preview = module.game.condition.preview(inputs) if module.game.condition else None
    images = mode.arrange(images, preview)
    out = make_output_dir(options["out"])
    _write_npy(sample_rows(images, content["hyper_parameters"]["data"]), out / "samples.npy")
    with atomic_write(out / "grid.png") as part:
        render(images, columns, SHOWN).save(part)
    first = f" (the first {SHOWN})" if len(images) > SHOWN and not are_points(images) else ""
    height, width = images.shape[2:]
    log.info("%s images of %d x %d: %s/samples.npy, %s/grid.png%s", f"{len(images):,}", height, width, out, out, first)


def _validate(options: Any) -> None:
    from oakleaf.config.types import NonNegativeInt, PositiveInt, Truncation
    from oakleaf.config.validate import validate

    texts: dict[str, Any] = {"checkpoint": str, "out": str, "device": str, "split": str | None, "root": str | None}
    numbers = {"count": PositiveInt, "seed": int, "condition": NonNegativeInt | str | None, "ema": bool, "mode": Any}
    validate(options, fixed={"": {**texts, **numbers, "truncation": Truncation | None}})


def _write_npy(rows: Any, path: Any) -> None:
    """Write an array as np.save does, whose own error for a full disk has no error number."""
    import numpy as np

    with atomic_write(path) as part, part.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(rows))
        file.write(rows.data)

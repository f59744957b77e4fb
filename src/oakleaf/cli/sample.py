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

AT_ONCE = 256  # images generated together
SHOWN = 256  # images on grid.png at most


def main() -> None:
    run_command("sample", sample)


def sample(config: DictConfig) -> None:
    """Load, draw, and write `grid.png` and `samples.npy`, uint8 [N, H, W, C] or points float32 [N, 2], into `out`."""
    if OmegaConf.is_missing(config, "checkpoint"):
        raise UserError("checkpoint= is missing: name a run's folder or a checkpoint file")
    import_torch()
    import numpy as np
    import torch

    from oakleaf.builder.recipe import instantiate_allowed, module_from_checkpoint
    from oakleaf.config.types import NonNegativeInt, PositiveInt
    from oakleaf.config.validate import validate
    from oakleaf.image_grid import are_points, render, to_bytes
    from oakleaf.runtime.checkpoint_io import read_checkpoint

    options: Any = OmegaConf.to_container(config, resolve=True)
    words: dict[str, Any] = {"checkpoint": str, "out": str, "device": str, "split": str | None, "root": str | None}
    validate(
        options,
        fixed={
            "": {
                **words,
                "count": PositiveInt,
                "seed": int,
                "condition": NonNegativeInt | str | None,
                "ema": bool,
                "mode": Any,
            }
        },
    )
    content = read_checkpoint(options["checkpoint"])
    module = module_from_checkpoint(content).to(resolve_device(options["device"]))
    mode = instantiate_allowed(options["mode"])
    mode.set_data(lambda: real_data(content, options["split"], options["root"])[0])
    with module.ema_scope(options["ema"]) as game:
        request, columns = mode(game, options["seed"])
    if (wanted := options["condition"]) is not None:
        if module.game.condition is None:
            raise UserError(f"condition={wanted}: this checkpoint's generator is told nothing")
        if mode.chooses_conditions:
            raise UserError(f"condition={wanted}: this mode shows them all; take it out, or another mode")
        names = module.classes if module.game.condition.classes else []
        if isinstance(wanted, str) and names:
            wanted = _numbered(wanted, names)
        if isinstance(wanted, int) and wanted < len(names):
            log.info("class %d: %s", wanted, names[wanted])
        ask = module.game.condition.from_text if isinstance(wanted, str) else module.game.condition.from_index
        request[module.game.condition.key] = ask(wanted, len(next(iter(request.values()))))
    pieces = zip(*(values.split(AT_ONCE) for values in request.values()))
    batches = ({name: part.to(module.device) for name, part in zip(request, piece)} for piece in pieces)
    images = torch.cat([module.sample(batch, options["ema"], mode.generate).cpu() for batch in batches])
    told = module.game.condition.preview(request) if module.game.condition else None
    images = mode.arrange(images, told)
    out = make_output_dir(options["out"])
    stored = images.flatten(1) if are_points(images) else to_bytes(images).permute(0, 2, 3, 1)
    _write(np.ascontiguousarray(stored.numpy()), out / "samples.npy")
    with atomic_write(out / "grid.png") as part:
        render(images, columns, SHOWN).save(part)
    shown = f" (the first {SHOWN})" if len(images) > SHOWN and not are_points(images) else ""
    height, width = images.shape[2:]
    log.info(
        "%s images of %d x %d: %s/samples.npy, and %s/grid.png%s", f"{len(images):,}", height, width, out, out, shown
    )


def _numbered(name: str, names: list[str]) -> int:
    if name not in names:
        known = ", ".join(f"{number} {one}" for number, one in enumerate(names[:20])) + (", ..." if names[20:] else "")
        raise UserError(f"condition={name}: no class is called so; there are {known}")
    return names.index(name)


def _write(rows: Any, path: Any) -> None:
    """As np.save does, which has no number for what a full disk says."""
    import numpy as np

    with atomic_write(path) as part, part.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(rows))
        file.write(rows.data)


if __name__ == "__main__":
    main()

"""python sample.py: from a checkpoint to images."""

import logging
from typing import Any

from omegaconf import DictConfig, OmegaConf

from oakleaf.cli.hardware import libraries, there
from oakleaf.cli.main import enter
from oakleaf.cli.real_data import real_images
from oakleaf.errors import Mistake
from oakleaf.runtime.run_dir import made, whole

log = logging.getLogger(__name__)

AT_ONCE = 256  # images generated together
SHOWN = 256  # images on grid.png at most


def main() -> None:
    enter("sample", sample)


def sample(config: DictConfig) -> None:
    """Load, draw, and write `grid.png` and `samples.npy`, uint8 [N, H, W, C] or points float32 [N, 2], into `out`."""
    if OmegaConf.is_missing(config, "checkpoint"):
        raise Mistake("checkpoint= is missing: name a run's folder or a checkpoint file")
    libraries()
    import numpy as np
    import torch

    from oakleaf.builder.recipe import make, opened
    from oakleaf.config.types import Count, Natural
    from oakleaf.config.validate import check
    from oakleaf.image_grid import are_points, picture, to_bytes
    from oakleaf.runtime.checkpoint_io import read

    asked: Any = OmegaConf.to_container(config, resolve=True)
    words: dict[str, Any] = {"checkpoint": str, "out": str, "device": str, "split": str | None, "root": str | None}
    check(
        asked,
        fixed={
            "": {**words, "count": Count, "seed": int, "condition": Natural | str | None, "average": bool, "mode": Any}
        },
    )
    content = read(asked["checkpoint"])
    module = opened(content).to(there(asked["device"]))
    mode = make(asked["mode"])
    mode.meet(lambda: real_images(content, asked["split"], asked["root"])[0])
    with module.averaged(asked["average"]) as game:
        request, columns = mode(game, asked["seed"])
    if (wanted := asked["condition"]) is not None:
        if module.game.condition is None:
            raise Mistake(f"condition={wanted}: this checkpoint's generator is told nothing")
        if mode.chooses:
            raise Mistake(f"condition={wanted}: this mode shows them all; take it out, or another mode")
        names = module.classes if module.game.condition.classes else []
        if isinstance(wanted, str) and names:
            wanted = _numbered(wanted, names)
        if isinstance(wanted, int) and wanted < len(names):
            log.info("class %d: %s", wanted, names[wanted])
        ask = module.game.condition.said if isinstance(wanted, str) else module.game.condition.wanted
        request[module.game.condition.key] = ask(wanted, len(next(iter(request.values()))))
    pieces = zip(*(values.split(AT_ONCE) for values in request.values()))
    batches = ({name: part.to(module.device) for name, part in zip(request, piece)} for piece in pieces)
    images = torch.cat([module.draw(batch, asked["average"], mode.drawn).cpu() for batch in batches])
    told = module.game.condition.shown(request) if module.game.condition else None
    images = mode.shown(images, told)
    out = made(asked["out"])
    stored = images.flatten(1) if are_points(images) else to_bytes(images).permute(0, 2, 3, 1)
    _write(np.ascontiguousarray(stored.numpy()), out / "samples.npy")
    with whole(out / "grid.png") as part:
        picture(images, columns, SHOWN).save(part)
    shown = f" (the first {SHOWN})" if len(images) > SHOWN and not are_points(images) else ""
    height, width = images.shape[2:]
    log.info(
        "%s images of %d x %d: %s/samples.npy, and %s/grid.png%s", f"{len(images):,}", height, width, out, out, shown
    )


def _numbered(name: str, names: list[str]) -> int:
    if name not in names:
        known = ", ".join(f"{number} {one}" for number, one in enumerate(names[:20])) + (", ..." if names[20:] else "")
        raise Mistake(f"condition={name}: no class is called so; there are {known}")
    return names.index(name)


def _write(rows: Any, path: Any) -> None:
    """As np.save does, which has no number for what a full disk says."""
    import numpy as np

    with whole(path) as part, part.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(rows))
        file.write(rows.data)


if __name__ == "__main__":
    main()

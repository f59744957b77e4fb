"""python composite.py: put an object of one picture into another, seamlessly."""

import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from oakleaf.cli.hardware import import_torch, resolve_device
from oakleaf.cli.main import run_command
from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import atomic_write, make_output_dir

log = logging.getLogger(__name__)

AT = "at="


class Files(NamedTuple):
    """The files of one composite."""

    source: Path
    target: Path
    mask: Path | None
    out: Path


def main() -> None:
    """Run the command."""
    sys.argv[1:] = [quoted_place(argument) for argument in sys.argv[1:]]
    run_command("composite", composite)


def quoted_place(argument: str) -> str:
    """Write at=40,60 as a list, since Hydra reads it as two values of a sweep; return others unchanged."""
    place = argument.removeprefix(AT)
    return f"{AT}[{place}]" if argument.startswith(AT) and place.replace("-", "")[:1].isdigit() else argument


def composite(config: DictConfig) -> None:
    """Write a composite for each source.

    Several methods are drawn side by side, with their names. A file is written completely or not at all.
    """
    for key in ("source", "target", "out"):
        if OmegaConf.is_missing(config, key):
            raise UserError(f"{key}= is missing: name {'the picture to write' if key == 'out' else 'a picture'}")
    import_torch()
    from oakleaf.sampling.composite import Compositor, Network, as_picture, read_layers

    options: Any = OmegaConf.to_container(config, resolve=True)
    methods = _validate(options)
    checkpoint = options["checkpoint"]
    network = Network(checkpoint, resolve_device(options["device"])) if checkpoint else None
    how = {key: options[key] for key in ("beta", "sigma", "softness", "base")}
    compositors = {method: Compositor(method, network=network, **how) for method in methods}  # type: ignore[arg-type]
    at = tuple(options["at"]) if options["at"] else None
    files = list(_files(options))
    for one in files:
        layers = read_layers(one.source, one.target, one.mask, at)  # type: ignore[arg-type]
        results = {method: compositor(layers) for method, compositor in compositors.items()}
        if len(results) == 1:
            _write(as_picture(next(iter(results.values())), layers.opacity), one.out)
        else:
            _write(_compared(layers, results), one.out)
    log.info("%s: %s", ", ".join(methods), files[0].out if len(files) == 1 else f"{len(files):,} in {options['out']}")


def _validate(options: Any) -> list[str]:
    """Check the options, and return the methods."""
    from oakleaf.config.types import NonNegativeFloat, PositiveFloat, PositiveInt
    from oakleaf.config.validate import validate
    from oakleaf.sampling.composite import METHODS

    texts: dict[str, Any] = {"source": str, "target": str, "out": str, "device": str}
    texts |= {"mask": str | None, "checkpoint": str | None, "method": str | list[str], "at": list[int] | None}
    numbers = {"beta": NonNegativeFloat, "sigma": PositiveFloat, "softness": NonNegativeFloat}
    validate(options, fixed={"": {**texts, **numbers, "base": PositiveInt | None}})
    given = options["method"]
    methods = [given] if isinstance(given, str) else list(dict.fromkeys(given))
    wrong = [method for method in methods if method not in METHODS]
    if wrong or not methods:
        raise UserError(f"method={wrong[0] if wrong else '[]'}: the methods are {', '.join(METHODS)}")
    if options["at"] is not None and len(options["at"]) != 2:
        raise UserError(f"at={options['at']}: give x and y of the source's left upper corner: at=40,60")
    return methods


def _files(options: Any) -> Iterator[Files]:
    """Give the files of each composite; of folders, those of the same name."""
    source, target, out = (Path(options[key]).expanduser() for key in ("source", "target", "out"))
    mask = Path(options["mask"]).expanduser() if options["mask"] else None
    if not source.is_dir():
        yield Files(source, target, mask, out)
        return
    from oakleaf.data.listing import list_pictures

    for file in list_pictures(source, "source").files:
        stem = file.relative_to(source).with_suffix("")
        matching = mask and _matching(mask, stem, "mask")
        yield Files(file, _matching(target, stem, "target"), matching, out / stem.with_suffix(".png"))


def _matching(place: Path, stem: Path, option: str) -> Path:
    """Return the picture itself, or the one in a folder that has the same name as the source."""
    if not place.is_dir():
        return place
    found = sorted((place / stem.parent).glob(f"{stem.name}.*"))
    if not found:
        raise UserError(f"{option}={place}: it has no picture of the name {stem}, which is one of the sources")
    return found[0]


def _compared(layers: Any, results: dict[str, Any]) -> Any:
    """Draw the target and the composites of several methods side by side."""
    import torch

    from oakleaf.figures.grid import Layout, Panel, draw_grid

    images = torch.stack([layers.target, *results.values()]).float() * 2 - 1
    panel = Panel(columns=min(len(images), 4), captions=["target", *results])
    return draw_grid(images, Layout((panel,), "one object, composited by several methods"))


def _write(picture: Any, path: Path) -> None:
    """Write a picture in the format that the path names."""
    from PIL import Image

    name = Image.registered_extensions().get(path.suffix.lower())
    if name not in Image.SAVE:
        raise UserError(f"out={path}: name a picture, such as {path.with_suffix('.png')}")
    if name in ("JPEG", "BMP") and picture.mode in ("RGBA", "LA"):
        picture = picture.convert("RGB")
    coded = io.BytesIO()
    picture.save(coded, name, **({"quality": 95} if name in ("JPEG", "WEBP") else {}))
    make_output_dir(str(path.parent))
    with atomic_write(path) as part:
        part.write_bytes(coded.getbuffer())


if __name__ == "__main__":
    main()

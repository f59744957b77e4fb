"""python translate.py: a folder of pictures through a trained translator."""

import io
import logging
import sys
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from oakleaf.cli.hardware import import_torch, resolve_device
from oakleaf.cli.main import run_command
from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import atomic_write, make_output_dir

log = logging.getLogger(__name__)


def main() -> None:
    """Run the command."""
    run_command("translate", translate)


def translate(config: DictConfig) -> None:
    """Translate each picture below `input`, or that one picture, and write it to `out` under its own name.

    A file is written completely or not at all. The exit code is 1 if some pictures could not be read.
    """
    for key in ("checkpoint", "input"):
        if OmegaConf.is_missing(config, key):
            raise UserError(f"{key}= is missing: name {'a run' if key == 'checkpoint' else 'a folder of pictures'}")
    import_torch()
    from pathlib import Path

    from tqdm import tqdm

    from oakleaf.config.validate import validate
    from oakleaf.data.folder import find_pictures
    from oakleaf.sampling.translate import Translator, UnreadablePicture

    options: Any = OmegaConf.to_container(config, resolve=True)
    texts: dict[str, Any] = dict.fromkeys(("checkpoint", "input", "out", "device"), str)
    choices = {"size": Literal["trained", "own"], "on_corrupt": Literal["skip", "error"]}
    switches = dict.fromkeys(("make_input", "inverse", "ema"), bool)
    validate(options, fixed={"": {**texts, **choices, **switches, "region": str | None, "seed": int}})
    place = Path(options["input"]).expanduser()
    files = [place] if place.is_file() else find_pictures(place, "input")
    root = place.parent if place.is_file() else place
    out = Path(options["out"]).expanduser()
    if out.resolve() == root.resolve():
        raise UserError(f"out={options['out']}: the pictures themselves are there, and would be written over")
    if out.resolve().is_relative_to(root.resolve()):  # what an earlier call wrote there is no input
        files = [file for file in files if not file.resolve().is_relative_to(out.resolve())]
    how = {key: options[key] for key in ("size", "make_input", "region", "inverse", "ema")}
    translator = Translator(options["checkpoint"], **how, device=resolve_device(options["device"]))
    make_output_dir(options["out"])
    unread = []
    for number, file in enumerate(tqdm(files, desc="translating", unit="img", leave=False, disable=None)):
        try:
            image = translator(file, options["seed"] + number)
        except UnreadablePicture as error:
            if options["on_corrupt"] == "error":
                raise UserError(f"{file}: {error}. Leave such pictures out: on_corrupt=skip") from error
            unread.append(f"{file}: {error}")
            continue
        _write(image, out / file.relative_to(root))
    log.info("%s of %s pictures translated: %s/", f"{len(files) - len(unread):,}", f"{len(files):,}", out)
    if unread:
        log.warning("skipped:\n  %s", "\n  ".join(unread))
        sys.exit(1)


def _write(image: Any, path: Any) -> None:
    """Coded in memory first: Pillow takes no notice of a JPEG's last bytes that a full disk refuses."""
    coded = io.BytesIO()
    coded.name = path.name  # which tells Pillow the format
    image.save(coded, **({"quality": 95} if path.suffix.lower() in (".jpg", ".jpeg", ".webp") else {}))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as part:
        part.write_bytes(coded.getbuffer())

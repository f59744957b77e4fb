"""python translate.py: a folder of pictures through a trained translator."""

import io
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from oakleaf.cli.hardware import import_torch, resolve_device
from oakleaf.cli.main import run_command
from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import atomic_write, make_output_dir

log = logging.getLogger(__name__)

NETPBM = {".pbm": "1", ".pgm": "L"}  # the mode of the images in these formats
LOSSY = ("JPEG", "MPO", "WEBP")
LISTED = 20  # files that a message names at most


def main() -> None:
    """Run the command."""
    run_command("translate", translate)


def translate(config: DictConfig) -> None:
    """Translate each picture below `input`, or that one picture, and write it to `out` under its own name.

    A file is written completely or not at all, in the format of the picture and with its opacity. The exit code is 1 if
    some pictures could not be read.
    """
    for key in ("checkpoint", "input"):
        if OmegaConf.is_missing(config, key):
            raise UserError(f"{key}= is missing: name {'a run' if key == 'checkpoint' else 'a folder of pictures'}")
    import_torch()
    from oakleaf.sampling.translate import Translator

    options: Any = OmegaConf.to_container(config, resolve=True)
    _validate(options)
    root, files, ignored = _pictures(Path(options["input"]).expanduser(), Path(options["out"]).expanduser())
    how = {key: options[key] for key in ("size", "make_input", "region", "inverse", "ema", "half")}
    translator = Translator(options["checkpoint"], **how, device=resolve_device(options["device"]))
    out = make_output_dir(options["out"])
    pairs = [str(file) for file in files if translator.looks_like_pair(file)]
    if pairs:
        log.warning(
            "%s pictures are as wide as an input and its target side by side, and each is translated as one picture; "
            "half=left or half=right translates one half of each:\n  %s",
            f"{len(pairs):,}",
            _listed(pairs),
        )
    unread = _translate_all(translator, files, root, out, options)
    log.info("%s of %s pictures translated: %s/", f"{len(files) - len(unread):,}", f"{len(files):,}", out)
    if ignored:
        log.info("ignored, as their names are not those of pictures:\n  %s", _listed(ignored))
    if unread:
        log.warning("skipped:\n  %s", "\n  ".join(unread))
        sys.exit(1)


def _validate(options: Any) -> None:
    from oakleaf.config.validate import validate

    texts: dict[str, Any] = dict.fromkeys(("checkpoint", "input", "out", "device"), str)
    choices = {"size": Literal["trained", "own"], "on_corrupt": Literal["skip", "error"]}
    switches: dict[str, Any] = dict.fromkeys(("make_input", "inverse", "ema"), bool)
    switches["half"] = Literal["left", "right"] | None
    validate(options, fixed={"": {**texts, **choices, **switches, "region": str | None, "seed": int}})


def _pictures(place: Path, out: Path) -> tuple[Path, list[Path], list[str]]:
    """Find the pictures.

    Args:
        place: a folder, or a picture.
        out: the folder of the translations; what an earlier call wrote there is no input.

    Returns:
        The folder, the pictures, and files below the folder that are none by their names.

    Raises:
        UserError: there are none, or the translations would overwrite them.
    """
    from oakleaf.data.listing import find_files, list_pictures

    root = place.parent if place.is_file() else place
    if out.resolve() == root.resolve():
        raise UserError(f"out={out}: the pictures themselves are there, and would be written over")
    if place.is_file():
        return root, [place], []

    def is_output(file: Path) -> bool:
        return out.resolve().is_relative_to(root.resolve()) and file.resolve().is_relative_to(out.resolve())

    files = [file for file in list_pictures(place, "input").files if not is_output(file)]
    found = set(files)
    return root, files, [str(file) for file in find_files(place) if file not in found and not is_output(file)]


def _translate_all(translator: Any, files: Sequence[Path], root: Path, out: Path, options: Any) -> list[str]:
    """Translate pictures and write them; return those that could not be read, with the reason."""
    from tqdm import tqdm

    from oakleaf.sampling.translate import UnreadablePicture

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
    return unread


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:LISTED])
    return "\n  ".join([*shown, *([f"and {len(names) - LISTED:,} more"] if len(names) > LISTED else [])])


def _write(image: Any, path: Path) -> None:
    """Write an image in the format that the path names, or as PNG where that format cannot hold it.

    It is coded in memory first: Pillow takes no notice of a JPEG's last bytes that a full disk refuses.
    """
    from PIL import Image

    name = Image.registered_extensions().get(path.suffix.lower())
    if name not in Image.SAVE or not _holds(path.suffix.lower(), image):
        path, name = path.with_name(f"{path.name}.png"), "PNG"
    coded = io.BytesIO()
    quality = {"quality": 95} if name in LOSSY else {}
    try:
        image.save(coded, name, **quality)
    except (OSError, ValueError):  # the format has no opacity, or no grey
        coded = io.BytesIO()
        image.convert("RGB").save(coded, name, **quality)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as part:
        part.write_bytes(coded.getbuffer())


def _holds(suffix: str, image: Any) -> bool:
    """Whether a format holds all colours and pixels of an image: GIF has 256 colours, PGM is grey, icons are small."""
    if suffix == ".gif":
        return image.getcolors(256) is not None
    if suffix == ".ico":
        return max(image.size) <= 256
    return NETPBM.get(suffix, image.mode) == image.mode

"""What stands beside an exported generator: plain JSON that needs no Oakleaf to be read."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from oakleaf.errors import UserError
from oakleaf.export.generator import ExportedGenerator
from oakleaf.gan import GAN
from oakleaf.metrics.scores import versions
from oakleaf.runtime.checkpoint_io import file_hash
from oakleaf.runtime.run_dir import atomic_write, redact_home, run_dir_of

CARD = "card.json"
VERSION = 1  # of the card's layout
KEPT = ("data", "loss", "optim", "model", "seed", "log_every", "max_images")  # of the recipe: what a generator is of
LARGEST = 10_000_000  # bytes of a card


def model_card(
    module: GAN, generator: ExportedGenerator, recipe: dict[str, Any], checkpoint: Path, ema: bool
) -> dict[str, Any]:
    """recipe: resolved. What a user of the generator has to know: inputs and output, where latents come from, classes
    or words; and where it comes from: recipe, checkpoint, versions, and what was measured of this very checkpoint.
    """
    asked = module.game.sample_inputs(2)
    images = module.sample(asked, ema)
    condition: Any = module.game.condition
    prior = recipe["model"]["game"].get("prior")  # a fitted density instead, in some
    latent = {"dim": asked["latent"].shape[1], "prior": prior} if "latent" in asked else None
    own = file_hash(checkpoint)
    data = {key: value for key, value in recipe["data"].items() if key not in ("root", "cache")}
    return redact_home(  # type: ignore[no-any-return]
        {
            "oakleaf_card": VERSION,
            "model": recipe["model"]["name"],
            "data": recipe["data"]["name"],
            "inputs": [describe_tensor(name, rows) for name, rows in asked.items()],
            "output": {**describe_tensor("image", images), "range": [-1.0, 1.0]},
            "latent": latent,
            "classes": (condition.classes or None) if condition else None,
            "class_names": module.classes if condition and condition.classes else None,
            "words": getattr(condition, "words", None),
            "images_seen": module.images_seen,
            "ema": ema and module.generator_ema is not None,
            "measures": _measures(checkpoint, own),
            "checkpoint": {"name": checkpoint.name, "hash": own},
            "versions": versions(),
            "files": {},
            "recipe": {**{key: recipe[key] for key in KEPT}, "data": data},
        }
    )


def describe_tensor(name: str, rows: Tensor) -> dict[str, Any]:
    """One input or the output, any number of rows."""
    shape: list[int | str] = ["batch", *rows.shape[1:]]
    if is_text(rows):
        shape[1] = "words"
    return {"name": name, "shape": shape, "dtype": str(rows.dtype).removeprefix("torch.")}


def is_text(rows: Tensor) -> bool:
    """Whether rows are texts, of any length."""
    return rows.dim() == 2 and not rows.is_floating_point()


def _measures(checkpoint: Path, own: str) -> list[dict[str, Any]]:
    """Those in the metrics.json beside a checkpoint that were taken of it, not of an earlier one. own: its hash."""
    try:
        there = json.loads((run_dir_of(checkpoint) / "metrics.json").read_text())
        return [entry for entry in there if entry["protocol"]["checkpoint_hash"] == own]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def write(said: dict[str, Any], folder: Path) -> None:
    with atomic_write(folder / CARD) as part:
        part.write_text(json.dumps(said, indent=1, default=float) + "\n")


def read(folder: Path) -> dict[str, Any]:
    """Raises:
    UserError: no card, or one of another layout.
    """
    file = folder / CARD
    if not file.is_file():
        raise UserError(f"{folder} holds no {CARD}: it is no exported generator (export.py checkpoint=RUN makes one)")
    try:
        if file.stat().st_size > LARGEST:
            raise ValueError
        said = json.loads(file.read_text())
        version, recipe = said["oakleaf_card"], said["recipe"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{file} is no card of Oakleaf's, or a damaged one") from error
    if version != VERSION or not isinstance(recipe, dict):
        raise UserError(f"{file} is a card of layout {version}, and this Oakleaf reads {VERSION}")
    return dict(said)

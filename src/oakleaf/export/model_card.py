"""What stands beside an exported generator: plain JSON that needs no Oakleaf to be read."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from oakleaf.errors import Mistake
from oakleaf.export.generator import Drawer
from oakleaf.gan import GAN
from oakleaf.metrics.scores import versions
from oakleaf.runtime.checkpoint_io import digest
from oakleaf.runtime.run_dir import beside, homeless, whole

CARD = "card.json"
VERSION = 1  # of the card's layout
KEPT = ("data", "loss", "optim", "model", "seed", "watch_every", "max_images")  # of the recipe: what a generator is of
LARGEST = 10_000_000  # bytes of a card


def card(module: GAN, drawer: Drawer, recipe: dict[str, Any], checkpoint: Path, average: bool) -> dict[str, Any]:
    """recipe: resolved. What a user of the generator has to know: inputs and output, where latents come from, classes
    or words; and where it comes from: recipe, checkpoint, versions, and what was measured of this very checkpoint.
    """
    asked = module.game.request(2)
    images = module.draw(asked, average)
    condition: Any = module.game.condition
    prior = recipe["model"]["game"].get("prior")  # a fitted density instead, in some
    latent = {"dim": asked["latent"].shape[1], "prior": prior} if "latent" in asked else None
    own = digest(checkpoint)
    data = {key: value for key, value in recipe["data"].items() if key not in ("root", "cache")}
    return homeless(  # type: ignore[no-any-return]
        {
            "oakleaf_card": VERSION,
            "model": recipe["model"]["name"],
            "data": recipe["data"]["name"],
            "inputs": [described(name, rows) for name, rows in asked.items()],
            "output": {**described("image", images), "range": [-1.0, 1.0]},
            "latent": latent,
            "classes": (condition.classes or None) if condition else None,
            "class_names": module.classes if condition and condition.classes else None,
            "words": getattr(condition, "words", None),
            "images_seen": module.images,
            "average": average and module.average is not None,
            "measures": _measures(checkpoint, own),
            "checkpoint": {"name": checkpoint.name, "hash": own},
            "versions": versions(),
            "files": {},
            "recipe": {**{key: recipe[key] for key in KEPT}, "data": data},
        }
    )


def described(name: str, rows: Tensor) -> dict[str, Any]:
    """One input or the output, any number of rows."""
    shape: list[int | str] = ["batch", *rows.shape[1:]]
    if spoken(rows):
        shape[1] = "words"
    return {"name": name, "shape": shape, "dtype": str(rows.dtype).removeprefix("torch.")}


def spoken(rows: Tensor) -> bool:
    """Whether rows are texts, of any length."""
    return rows.dim() == 2 and not rows.is_floating_point()


def _measures(checkpoint: Path, own: str) -> list[dict[str, Any]]:
    """Those in the metrics.json beside a checkpoint that were taken of it, not of an earlier one. own: its hash."""
    try:
        there = json.loads((beside(checkpoint) / "metrics.json").read_text())
        return [entry for entry in there if entry["protocol"]["checkpoint_hash"] == own]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def write(said: dict[str, Any], folder: Path) -> None:
    with whole(folder / CARD) as part:
        part.write_text(json.dumps(said, indent=1, default=float) + "\n")


def read(folder: Path) -> dict[str, Any]:
    """Raises:
    Mistake: no card, or one of another layout.
    """
    file = folder / CARD
    if not file.is_file():
        raise Mistake(f"{folder} holds no {CARD}: it is no exported generator (export.py checkpoint=RUN makes one)")
    try:
        if file.stat().st_size > LARGEST:
            raise ValueError
        said = json.loads(file.read_text())
        version, recipe = said["oakleaf_card"], said["recipe"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Mistake(f"{file} is no card of Oakleaf's, or a damaged one") from error
    if version != VERSION or not isinstance(recipe, dict):
        raise Mistake(f"{file} is a card of layout {version}, and this Oakleaf reads {VERSION}")
    return dict(said)

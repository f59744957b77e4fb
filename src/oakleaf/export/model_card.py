"""The model card of an exported generator, `card.json`: plain JSON that can be read without Oakleaf."""

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
VERSION = 2  # of the card's layout; layout 1 was written by Oakleaf 0.1
RECIPE_KEYS = ("data", "loss", "optim", "model", "seed", "log_every", "max_images")  # of the recipe that is stored
MAX_BYTES = 10_000_000  # of a card that is read


def model_card(
    module: GAN, generator: ExportedGenerator, recipe: dict[str, Any], checkpoint: Path, ema: bool
) -> dict[str, Any]:
    """Describe an exported generator.

    Args:
        module: the module of the checkpoint.
        generator: the exported part of it.
        recipe: the stored configuration, resolved.
        checkpoint: the checkpoint's file.
        ema: whether the EMA generator was exported, if there is one.

    Returns:
        The card, as plain JSON values: what a user has to know (inputs and output with shapes, types and range, the
        prior of the latents, classes or vocabulary), and where the generator comes from (recipe, checkpoint, versions,
        and the metrics computed of this checkpoint).
    """
    inputs = module.game.sample_inputs(2)
    images = module.sample(inputs, ema)
    condition: Any = module.game.condition
    prior = recipe["model"]["game"].get(
        "prior"
    )  # null where the game itself draws from N(0, I) (vae, gmm, autoencoder)
    checkpoint_hash = file_hash(checkpoint)
    data = {key: value for key, value in recipe["data"].items() if key not in ("root", "cache")}
    return redact_home(  # type: ignore[no-any-return]
        {
            "oakleaf_card": VERSION,
            "model": recipe["model"]["name"],
            "data": recipe["data"]["name"],
            "inputs": [describe_tensor(name, rows) for name, rows in inputs.items()],
            "output": {**describe_tensor("image", images), "range": [-1.0, 1.0]},
            "latent": {"dim": inputs["latent"].shape[1], "prior": prior} if "latent" in inputs else None,
            "classes": (condition.classes or None) if condition else None,
            "class_names": module.classes if condition and condition.classes else None,
            "words": getattr(condition, "words", None),
            "images_seen": module.images_seen,
            "ema": ema and module.generator_ema is not None,
            "metrics": _metrics(checkpoint, checkpoint_hash),
            "checkpoint": {"name": checkpoint.name, "hash": checkpoint_hash},
            "versions": versions(),
            "files": {},
            "recipe": {**{key: recipe[key] for key in RECIPE_KEYS}, "data": data},
        }
    )


def describe_tensor(name: str, rows: Tensor) -> dict[str, Any]:
    """Describe one input or the output: its name, its shape with a variable batch size, and its type."""
    shape: list[int | str] = ["batch", *rows.shape[1:]]
    if is_text(rows):
        shape[1] = "words"
    return {"name": name, "shape": shape, "dtype": str(rows.dtype).removeprefix("torch.")}


def is_text(rows: Tensor) -> bool:
    """Return whether the rows are texts, as numbers of words, [B, length]; their length is variable."""
    return rows.dim() == 2 and not rows.is_floating_point()


def _metrics(checkpoint: Path, checkpoint_hash: str) -> list[dict[str, Any]]:
    """Return the entries of the run's metrics.json that were computed of this checkpoint, not of an earlier one."""
    try:
        entries = json.loads((run_dir_of(checkpoint) / "metrics.json").read_text())
        return [entry for entry in entries if entry["protocol"]["checkpoint_hash"] == checkpoint_hash]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def write(card: dict[str, Any], folder: Path) -> None:
    """Write a card to `<folder>/card.json`."""
    with atomic_write(folder / CARD) as part:
        part.write_text(json.dumps(card, indent=1, default=float) + "\n")


def read(folder: Path) -> dict[str, Any]:
    """Read `<folder>/card.json`.

    Raises:
        UserError: there is no card, it is damaged, or it has another layout.
    """
    file = folder / CARD
    if not file.is_file():
        raise UserError(
            f"{folder} has no {CARD}, so it is not an exported generator: export.py checkpoint=RUN makes one"
        )
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ValueError
        card = dict(json.loads(file.read_text()))
        version = card["oakleaf_card"]
        if not isinstance(card["recipe"], dict):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{file} is not a model card of Oakleaf, or it is damaged") from error
    if version != VERSION:
        reason = f"this version of Oakleaf reads layout {VERSION}; load it with the version that wrote it"
        raise UserError(f"{file} is a card of layout {version}, and {reason}")
    return card

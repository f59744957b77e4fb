"""init=: a new run begins with existing weights, those of a run, a checkpoint, an exported folder or the hub."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oakleaf.builder.recipe import refers_to
from oakleaf.builder.transfer import Source, Transfer, averaged, table, transfer
from oakleaf.errors import UserError
from oakleaf.runtime.checkpoint_io import read_checkpoint
from oakleaf.runtime.ownership import is_first_process

log = logging.getLogger(__name__)


def initialize(module: Any, data: Any, init: Mapping[str, Any]) -> list[Transfer]:
    """Give a new run's networks existing weights, and log which ones.

    Clock, optimizers, moving averages and the state of losses begin anew.

    Args:
        module: the new module; it is changed.
        data: its data module.
        init: the option init: `checkpoint`, `players`, `ema`.

    Raises:
        UserError: there are no such weights, or none of them fits.
    """
    source = read_source(str(init["checkpoint"]), init["ema"])
    by_class = refers_to(module.recipe.get("model"), "data.classes")
    results = transfer(module, source, list(data.classes) if by_class else [], init["players"])
    if hasattr(module, "game"):
        module.game.initialized = {one.network for one in results if one.taken}
    if is_first_process():
        log.info("weights of %s\n%s", source.description, table(results))
    return results


def read_source(place: str, ema: bool = True) -> Source:
    """Read existing weights.

    Args:
        place: the folder of a run, a checkpoint file, a folder that export.py wrote, or `owner/name` on the hub.
        ema: of networks with a moving average, take that.

    Raises:
        UserError: there is nothing of this name, or it is damaged.
    """
    path = Path(place).expanduser()
    if not path.exists() and (place.count("/") != 1 or place.startswith((".", "/", "~"))):
        raise UserError(f"init={place}: there is no such run, checkpoint or folder, and the hub's names are owner/name")
    if not path.exists() or (path / "card.json").is_file():
        return _exported(place)
    content = read_checkpoint(path)
    state, recipe = content["state_dict"], content["hyper_parameters"]
    names = content["trained_on"]["classes"] if refers_to(recipe.get("model"), "data.classes") else []
    description = f"{place} ({content['images_seen']:,} images seen)"
    return Source(averaged(state) if ema else state, names, description)


def _exported(place: str) -> Source:
    """Read an exported generator."""
    from oakleaf.export.pretrained import from_pretrained

    generator = from_pretrained(place)
    card = generator.card
    names = card.get("class_names") or card.get("words") or []
    description = f"{place} ({card.get('images_seen', 0):,} images seen)"
    return Source(generator.state_dict(), names, description)

"""Overrides that name a class, in the form that Hydra needs, and values in quotes. Nothing here imports torch."""

import re
from collections.abc import Sequence

TARGET = "._target_"
NEW_NODE = re.compile(r"[\w.]+=\s*\{\s*_target_\s*:")  # no `+` before it
DATA_CLASSES = ("data._target_", "data.dataset._target_")


def name_classes(overrides: Sequence[str]) -> bool:
    """Return whether an override names a class, so that options of the class before may have to be removed."""
    return any("_target_" in override for override in overrides)


def for_hydra(overrides: Sequence[str]) -> list[str]:
    """Return overrides in the form that Hydra needs: `for_new_classes`, and `init=RUN` as `init.checkpoint=RUN`.

    Args:
        overrides: as on the command line; flags among them are left as they are.
    """
    return for_new_classes([re.sub(r"^init=(?!\{)", "init.checkpoint=", override) for override in overrides])


def for_new_classes(overrides: Sequence[str]) -> list[str]:
    """Return overrides that fit the classes that they name.

    Where an override names a class, `model.game.generator._target_=mine.G`, the further ones for the same node may set
    options that the class before did not have: they are written with `++`, which Hydra takes for old and new keys. So
    is `model.game.generator={_target_: mine.G, blocks: 8}`. The
    options of a class are checked against its signature later. A class of data gets its name as that of the data, as
    the run's folder is called after it, unless `data.name` is given.

    Args:
        overrides: as on the command line; flags among them are left as they are.
    """
    keys = [override.lstrip("+").partition("=")[0] for override in overrides]
    nodes = [key.removesuffix(TARGET) for key in keys if key.endswith(TARGET)]
    named = [override.partition("=")[2] for override, key in zip(overrides, keys) if key in DATA_CLASSES]
    result = [
        f"++{override.lstrip('+')}" if _is_below(key, nodes) or NEW_NODE.match(override) else override
        for override, key in zip(overrides, keys)
    ]
    name = named[-1].strip("'\"") if named else ""
    is_one = re.fullmatch(r"[\w.]+", name) and "data.name" not in keys
    return [*result, f"++data.name={name.rpartition('.')[2]}"] if is_one else result


def _is_below(key: str, nodes: Sequence[str]) -> bool:
    return not key.endswith(TARGET) and any(key.startswith(f"{node}.") for node in nodes)


def quote(value: object) -> str:
    """Return a value in quotes, as Hydra's grammar reads any text.

    Between quotes a backslash is a backslash, except before the quotation mark and at the end.
    """
    text = str(value)
    mark = "'" if '"' in text and "'" not in text else '"'
    escaped = re.sub(rf"(\\*)({mark}|$)", lambda found: 2 * found[1] + ("\\" if found[2] else "") + found[2], text)
    return f"{mark}{escaped}{mark}"

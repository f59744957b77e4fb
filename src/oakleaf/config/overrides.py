"""Overrides that name a class. Nothing here imports torch."""

from collections.abc import Sequence

DATA_CLASSES = ("data._target_", "data.dataset._target_")


def name_classes(overrides: Sequence[str]) -> bool:
    """Return whether an override names a class, so that options of the class before may have to be removed."""
    return any("_target_" in override for override in overrides)


def with_data_name(overrides: Sequence[str]) -> list[str]:
    """Return the overrides with a name for the data, if they name a class of data and no name.

    The run's folder is called after the data, and the name in the configuration would be that of other data.

    Args:
        overrides: as on the command line; flags among them are left as they are.
    """
    keys = [override.lstrip("+").partition("=")[0] for override in overrides]
    targets = [override.partition("=")[2] for override, key in zip(overrides, keys) if key in DATA_CLASSES]
    if not targets or "data.name" in keys:
        return list(overrides)
    name = targets[-1].strip("'\"").rpartition(".")[2]
    return [*overrides, f"++data.name={name}"] if name.isidentifier() else list(overrides)

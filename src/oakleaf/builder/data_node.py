"""The node `data` of a configuration that names a user's own data set or data module, in the form that is built.

A configuration may name the class itself: `data: {_target_: mine.Photos, root: photos, size: 64}`. It then stands for
`oakleaf.data.adapter.DatasetAdapter` (conf/data/dataset.yaml) with that class as `dataset`: what the constructor of the
class knows (`root`) is given to it, and the rest (`size`) to the adapter.
"""

import inspect
from typing import Any

from omegaconf import DictConfig, OmegaConf

from oakleaf.config.allowlist import locate
from oakleaf.config.paths import conf_dir
from oakleaf.config.suggest import unknown_key_message
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.errors import UserError

ADAPTER = "oakleaf.data.adapter.DatasetAdapter"


def with_adapter(config: DictConfig) -> DictConfig:
    """Return the configuration with a node `data` that makes an `ImageDataModule`.

    Args:
        config: composed; it is not changed.

    Raises:
        UserError: the class is not allowed, or neither it nor the adapter knows a key.
    """
    node: Any = OmegaConf.to_container(config.data, resolve=False)
    if not isinstance(node, dict) or "_target_" not in node:
        return config
    if node["_target_"] == ADAPTER:
        adapted = _with_late_keys(node)
    elif makes_images(node["_target_"]):
        return config
    else:
        adapted = _adapted(node)
    result: DictConfig = config.copy()
    OmegaConf.set_struct(result, False)
    result.data = adapted
    return result


def makes_images(target: str) -> bool:
    """Return whether a class, or what a function returns, is an `ImageDataModule`, which needs no adapter."""
    found = locate(target, "data._target_")
    if inspect.isfunction(found):
        found = inspect.get_annotations(found, eval_str=True).get("return")
    return inspect.isclass(found) and issubclass(found, ImageDataModule)


def _adapted(node: dict[str, Any]) -> dict[str, Any]:
    """The adapter's node with its defaults, and the user's class with the keys that it knows."""
    adapter = defaults()
    target = node["_target_"]
    adapter["name"] = target.rpartition(".")[2]
    known, takes_any = _parameters(target)
    dataset = {"_target_": target}
    for key, value in node.items():
        if key == "_target_":
            continue
        if key in known or (takes_any and key not in adapter) or key in ("_args_", "_partial_", "_convert_"):
            dataset[key] = value
        elif key in adapter:
            adapter[key] = value
        else:
            raise UserError(unknown_key_message(f"data.{key}", [*known, *adapter]))
    return {**adapter, "dataset": dataset}


def _with_late_keys(node: dict[str, Any]) -> dict[str, Any]:
    """The same node; keys that only the class of the data set knows, as `data.root=` of a later command, go to it."""
    dataset = node.get("dataset")
    if not isinstance(dataset, dict) or "_target_" not in dataset:
        return node
    known, _ = _parameters(dataset["_target_"])
    late = {key: value for key, value in node.items() if key not in defaults() and key in known}
    return {key: value for key, value in node.items() if key not in late} | {"dataset": {**dataset, **late}}


def _parameters(target: str) -> tuple[list[str], bool]:
    """The names of the parameters of a class or function, and whether it takes any other name."""
    parameters = inspect.signature(locate(target, "data._target_")).parameters
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [name for name, parameter in parameters.items() if parameter.kind in named], takes_any


def defaults() -> dict[str, Any]:
    """Return the adapter's keys with their values in conf/data/dataset.yaml."""
    node: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / "data/dataset.yaml"), resolve=False)
    del node["defaults"]
    return node  # type: ignore[no-any-return]

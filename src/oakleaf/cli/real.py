"""The real images of a checkpoint's run, read again by its recipe."""

import inspect
from collections.abc import Callable
from typing import Any

from omegaconf import OmegaConf

from oakleaf.errors import Mistake


def real_images(recipe: dict[str, Any], split: str | None, root: str | None) -> tuple[Any, Callable[[], Any] | None]:
    """The run's data module, ready; and how to get that of its test split, if it was trained on another.

    split: another one of the set's; root: where the data are now.
    """
    from oakleaf.check import check
    from oakleaf.recipe import make
    from oakleaf.trust import locate

    whole: Any = OmegaConf.to_container(OmegaConf.masked_copy(OmegaConf.create(recipe), ["data", "seed"]), resolve=True)
    node = whole["data"]
    if root and "root" not in node:
        raise Mistake(f"root={root}: data={node['name']} are made here, and lie nowhere")
    if root:
        node["root"] = root
        if "${data.classes}" not in str(recipe["model"]):  # no network was made for their number
            node["classes"] = None
    source = node.get("source", {})
    has = source and "split" in inspect.signature(locate(source["_target_"], "data.source._target_")).parameters
    if split and not has:
        raise Mistake(f"split={split}: data={node['name']} has no splits")

    def ready(part: str | None) -> Any:
        described = {**node, "source": {**source, "split": part}} if part else node
        if part == "test" and "first" in source:
            described["source"]["first"] = None
        check(described, "data")
        try:
            data = make(described)
        except Mistake as error:
            raise Mistake(str(error).replace("data.root=", "root=")) from error  # as it is called here
        data.prepare_data()
        data.setup()
        return data

    other = has and (split or source.get("split")) == "train"
    return ready(split), (lambda: ready("test")) if other else None

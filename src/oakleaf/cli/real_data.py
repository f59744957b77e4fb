"""The real images of a checkpoint's run, read again by its recipe."""

import inspect
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from oakleaf.errors import UserError

log = logging.getLogger(__name__)


class RealData(NamedTuple):
    """data: the module, ready; split: which part of the set it is. If that is the training split, test: how to get
    the module of the test split; unseen: if the run saw only the first of the training split, how to get the module of
    all of it, and the other rows, [N].
    """

    data: Any
    split: str | None
    test: Callable[[], Any] | None = None
    unseen: Callable[[], tuple[Any, Any]] | None = None


def real_data(content: dict[str, Any], split: str | None, root: str | None) -> RealData:
    """content: of the checkpoint; split: another one of the set's; root: where the data are now."""
    from oakleaf.builder.recipe import check_classes, instantiate_allowed
    from oakleaf.config.allowlist import locate
    from oakleaf.config.validate import validate

    recipe = content["hyper_parameters"]
    whole: Any = OmegaConf.to_container(OmegaConf.masked_copy(OmegaConf.create(recipe), ["data", "seed"]), resolve=True)
    node = whole["data"]
    if root and "root" not in node:
        raise UserError(f"root={root}: data={node['name']} are made here, and lie nowhere")
    if root:
        node["root"] = root
    node["classes"] = None  # compared by name
    source = node.get("source", {})
    has = source and "split" in inspect.signature(locate(source["_target_"], "data.source._target_")).parameters
    if split and not has:
        raise UserError(f"split={split}: data={node['name']} has no splits")

    def ready(part: str | None, entire: bool = False) -> Any:
        described = {**node, "source": {**source, "split": part}} if part else node
        if entire and "first" in source:
            described["source"]["first"] = None
        validate(described, "data")
        try:
            data = instantiate_allowed(described)
        except UserError as error:
            raise UserError(str(error).replace("data.root=", "root=")) from error  # as it is called here
        check_classes(content, data)
        data.prepare_data()
        data.setup()
        return data

    def unseen() -> tuple[Any, Any]:
        import torch

        data = ready("train", entire=True)
        return data, torch.arange(source["first"], len(data.rows["image"]))

    learned = source.get("split") if has else None
    split = split or learned
    data = ready(split, entire=split == "test")
    if split == learned and data.hash != content["trained_on"]["data"]:
        log.warning("these are not the pictures that the run learned from: others came, went or were changed")
    if split != "train" or learned == "all":  # of which it has seen what the test split has
        return RealData(data, split)
    return RealData(data, split, lambda: ready("test", entire=True), unseen if source.get("first") else None)

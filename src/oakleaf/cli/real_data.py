"""Read the real images of a checkpoint's run again, as its recipe describes them."""

import inspect
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from oakleaf.errors import UserError

log = logging.getLogger(__name__)


class RealData(NamedTuple):
    """The data of a run.

    Attributes:
        data: the data module, set up.
        split: which part of the set it is.
        test: makes the data module of the test split, if `data` is the training split; else None.
        not_trained_on: makes the data module of the whole training split and the rows [N] that the run was not trained
            on, if it was trained on the first images only; else None.
        is_test: whether `data` is the test split, and the run was trained on the training split.
    """

    data: Any
    split: str | None
    test: Callable[[], Any] | None = None
    not_trained_on: Callable[[], tuple[Any, Any]] | None = None
    is_test: bool = False


def real_data(content: dict[str, Any], split: str | None, root: str | None) -> RealData:
    """Read the data of a run.

    Args:
        content: content of its checkpoint.
        split: another split of the set; None: the one of the training.
        root: the folder where the data are now; None: where they were.

    Raises:
        UserError: the set has no splits or folder, or its classes are others than the checkpoint's.
    """
    from oakleaf.builder.instantiate import instantiate_allowed
    from oakleaf.builder.load import check_classes
    from oakleaf.config.allowlist import locate
    from oakleaf.config.validate import validate

    recipe = content["hyper_parameters"]
    stored: Any = OmegaConf.to_container(
        OmegaConf.masked_copy(OmegaConf.create(recipe), ["data", "seed"]), resolve=True
    )
    node = stored["data"]
    if root and "root" not in node:
        raise UserError(f"root={root}: data={node['name']} is generated and has no folder")
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

    def not_trained_on() -> tuple[Any, Any]:
        import torch

        data = ready("train", entire=True)
        return data, torch.arange(source["first"], len(data.rows["image"]))

    trained = source.get("split") if has else None
    split = split or trained
    data = ready(split, entire=split == "test")
    if split == trained and data.hash != content["trained_on"]["data"]:
        log.warning("these are not the pictures of the training: some were added, removed or changed")
    if split != "train" or trained == "all":  # then the training has seen the test split
        return RealData(data, split, is_test=split == "test" and trained == "train")
    return RealData(data, split, lambda: ready("test", entire=True), not_trained_on if source.get("first") else None)

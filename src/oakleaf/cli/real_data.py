"""Read the real images of a checkpoint's run again, as its recipe describes them."""

import inspect
import logging
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

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
    from oakleaf.builder.load import changed_data

    stored = _StoredData(content, root)
    if split and not stored.splits:
        raise UserError(f"split={split}: data={stored.node['name']} has no splits")
    trained = stored.trained_split
    data = stored.ready(split or trained, entire=(split or trained) == "test")
    if not split and trained == "all":
        trained = getattr(data.source, "split", trained)  # folders of splits, of which the training used one
    split = split or trained
    if split == trained and (changed := changed_data(content, data)):
        log.warning("%s", changed)
    if split != "train" or trained == "all":  # then the training has seen the test split
        return RealData(data, split, is_test=split == "test" and trained == "train")
    not_trained_on = stored.not_trained_on if stored.source.get("first") else None
    return RealData(data, split, lambda: stored.ready("test", entire=True), not_trained_on)


class _StoredData:
    """The node `data` of a checkpoint, for the part of the set that is asked for.

    Args:
        content: content of the checkpoint.
        root: the folder where the data are now; None: where they were.

    Attributes:
        node: the node.
        source: what lists the pictures, or the user's own data set or data module.
        splits: how the set names its splits: by an argument `split`, by torchvision's `train` (true or false), by the
            loaders of a data module (`split` of the adapter), or not at all.

    Raises:
        UserError: a folder is named, and the set has none.
    """

    def __init__(self, content: dict[str, Any], root: str | None) -> None:
        parts = OmegaConf.masked_copy(OmegaConf.create(content["hyper_parameters"]), ["data", "seed"])
        stored: Any = OmegaConf.to_container(parts, resolve=True)
        self.content, self.node = content, stored["data"]
        self.key = "dataset" if "dataset" in self.node else "source"
        self.source: dict[str, Any] = self.node.get(self.key) or {}
        if self.key == "source":
            self.node["classes"] = None  # compared by name
        if root:
            self._move(root)
        self.splits = self._splits()

    def _move(self, root: str) -> None:
        for holder in (self.node, self.source):
            if "root" in holder:
                holder["root"] = root
                return
        raise UserError(f"root={root}: data={self.node['name']} is generated and has no folder")

    def _splits(self) -> Literal["split", "train", "loaders"] | None:
        from lightning.pytorch import LightningDataModule

        from oakleaf.config.allowlist import locate

        if not self.source:
            return None
        found = locate(self.source["_target_"], f"data.{self.key}._target_")
        if inspect.isclass(found) and issubclass(found, LightningDataModule):
            return "loaders"
        parameters = inspect.signature(found).parameters
        names: list[Literal["split", "train"]] = ["split", "train"] if self.key == "dataset" else ["split"]
        return next((name for name in names if name in parameters), None)

    @property
    def trained_split(self) -> str | None:
        """The split of the training; None without splits, or if it is the default of the user's class."""
        if self.splits == "train":
            return "train" if self.source.get("train", True) else "test"
        return (self.node if self.splits == "loaders" else self.source).get("split") if self.splits else None

    def ready(self, split: str | None, entire: bool = False) -> Any:
        """Return the data module of a split, set up.

        Args:
            split: the split; None: as in the training.
            entire: of a set that was trained on its first images only, all images.
        """
        from oakleaf.builder.instantiate import instantiate_allowed
        from oakleaf.builder.load import check_classes
        from oakleaf.config.validate import validate

        described = {**self.node, self.key: dict(self.source)} if self.source else dict(self.node)
        if split and self.splits == "loaders":
            described["split"] = split
        elif split and self.splits:
            described[self.key][self.splits] = split if self.splits == "split" else split == "train"
        if entire and "first" in self.source:
            described[self.key]["first"] = None
        validate(described, "data")
        try:
            data = instantiate_allowed(described)
        except UserError as error:
            raise UserError(str(error).replace("data.root=", "root=")) from error  # as it is called here
        check_classes(self.content, data)
        data.prepare_data()
        data.setup()
        return data

    def not_trained_on(self) -> tuple[Any, Any]:
        """Return the whole training split, and the rows of it that the run was not trained on."""
        import torch

        data = self.ready("train", entire=True)
        return data, torch.arange(self.source["first"], data.count)

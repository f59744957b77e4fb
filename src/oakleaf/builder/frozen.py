"""Frozen networks of other runs: their architectures are written into the configuration of the new run."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from oakleaf.builder.load import resolve_recipe
from oakleaf.config.allowlist import locate
from oakleaf.errors import UserError
from oakleaf.runtime.checkpoint_io import read_checkpoint


def with_architectures(config: DictConfig) -> DictConfig:
    """Return the configuration with the architecture of each frozen network that is one of another run.

    The run that results can then be loaded without the other one. A class of frozen networks whose architecture is in a
    run has a method `describe`; see `oakleaf.frozen.Run`.

    Args:
        config: composed; it is not changed.

    Raises:
        UserError: no run is named, or it has no such network.
    """
    nodes: Any = OmegaConf.to_container(config.model.get("frozen") or OmegaConf.create(), resolve=True)
    described = {}
    for name, node in nodes.items():
        where = f"model.frozen.{name}"
        if not isinstance(node, dict) or "_target_" not in node:
            continue  # refused by the validation
        describe = getattr(locate(node["_target_"], f"{where}._target_"), "describe", None)
        if describe is None or node.get("module") is not None:
            continue
        if node.get("checkpoint") is None:
            raise UserError(f"{where}.checkpoint= is missing: name the folder of a run, or a checkpoint file")
        recipe = resolve_recipe(read_checkpoint(node["checkpoint"])["hyper_parameters"])
        described[name] = {**node, **describe(recipe, node)}
    result: DictConfig = config.copy()
    OmegaConf.set_struct(result, False)
    return OmegaConf.merge(result, {"model": {"frozen": described}}) if described else config  # type: ignore[return-value]

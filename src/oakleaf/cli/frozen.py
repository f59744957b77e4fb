"""Frozen networks that a command other than train.py adds to a trained run."""

from omegaconf import DictConfig, OmegaConf


def with_frozen_networks(config: DictConfig, key: str) -> DictConfig:
    """Return the configuration with what frozen networks need: the facts of the run's data, which their files name by
    `${data.size}`, and the architectures of networks of other runs.

    Args:
        config: composed, with `checkpoint`; it is not changed.
        key: the dotted key of a mapping of frozen networks by name.
    """
    if not OmegaConf.select(config, key):
        return config
    from oakleaf.builder.frozen import with_architectures
    from oakleaf.builder.load import resolve_recipe
    from oakleaf.runtime.checkpoint_io import read_checkpoint

    data = resolve_recipe(read_checkpoint(str(config.checkpoint))["hyper_parameters"])["data"]
    facts = {name: data.get(name) for name in ("size", "channels", "classes")}
    nodes = OmegaConf.to_container(OmegaConf.select(config, key))
    known = with_architectures(OmegaConf.create({"data": facts, "model": {"frozen": nodes}}))
    result: DictConfig = config.copy()
    OmegaConf.set_struct(result, False)
    OmegaConf.update(result, key, OmegaConf.to_container(known.model.frozen, resolve=True), merge=False)
    return result

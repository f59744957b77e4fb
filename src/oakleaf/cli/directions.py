"""python directions.py: named directions in the latents of a trained generator."""

import logging
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from oakleaf.cli.frozen import with_frozen_networks
from oakleaf.cli.hardware import import_torch, resolve_device
from oakleaf.cli.main import run_command
from oakleaf.cli.real_data import real_data
from oakleaf.errors import UserError

log = logging.getLogger(__name__)


def main() -> None:
    """Run the command."""
    run_command("directions", directions)


def directions(config: DictConfig) -> None:
    """Find directions and write them into `directions.json` beside the checkpoint."""
    if OmegaConf.is_missing(config, "checkpoint"):
        raise UserError("checkpoint= is missing: name a run's folder or a checkpoint file")
    import_torch()
    from oakleaf.builder.load import gan_from_checkpoint
    from oakleaf.runtime.checkpoint_io import checkpoint_path, file_hash, read_checkpoint
    from oakleaf.sampling.named_directions import file_of, save

    options = _options(config)
    path = checkpoint_path(options["checkpoint"])
    content = read_checkpoint(path)
    module = gan_from_checkpoint(content).to(resolve_device(options["device"]))
    found = _find(module, content, options)
    digest, file = file_hash(path), file_of(path)
    save(file, [one._replace(checkpoint=digest) for one in found])
    log.info("%s\n%s", _table(found), file)


def _options(config: DictConfig) -> dict[str, Any]:
    """Return the validated options."""
    from oakleaf.config.types import PositiveFloat, PositiveInt
    from oakleaf.config.validate import validate

    options: Any = OmegaConf.to_container(with_frozen_networks(config, "networks"), resolve=True)
    texts: dict[str, Any] = {"checkpoint": str, "device": str, "split": str | None, "root": str | None}
    numbers = {"count": PositiveInt, "samples": PositiveInt, "share": PositiveFloat, "seed": int, "ema": bool}
    chosen = {"by": Literal["attributes", "classifier", "pca", "sefa"], "names": list[str] | None}
    validate(options, fixed={"": {**texts, **numbers, **chosen, "networks": Any, "training": Any}})
    if len(options["networks"]) > 1:
        raise UserError(f"networks=: one is needed, and there are {', '.join(options['networks'])}")
    if options["share"] >= 0.5:
        raise UserError(f"share={options['share']}: below 0.5, since both sides have so many samples")
    return options  # type: ignore[no-any-return]


def _find(module: Any, content: dict[str, Any], options: dict[str, Any]) -> list[Any]:
    """Return the directions."""
    from oakleaf.sampling.latents import latent_inputs
    from oakleaf.sampling.named_directions import pca_directions, sefa_directions

    by = options["by"]
    with module.ema_scope(options["ema"]) as game:
        inputs = latent_inputs(game, options["samples"] if by != "sefa" else 1, options["seed"])
        if by in ("attributes", "classifier"):
            return _by_network(module, content, inputs, options)
        rows = {name: values[:1] for name, values in inputs.items() if name != "latent"}

        def generate(z: Any) -> Any:
            repeated = {name: values.expand(len(z), *values.shape[1:]) for name, values in rows.items()}
            return game.generate({name: v.to(module.device) for name, v in {**repeated, "latent": z}.items()})

        z = inputs["latent"]
        if by == "sefa":
            return sefa_directions(game.generator, lambda: generate(z), z.shape[1], options["count"])
        return pca_directions(game.generator, generate, z, options["count"])


def _by_network(module: Any, content: dict[str, Any], inputs: Any, options: dict[str, Any]) -> list[Any]:
    """Return the directions of what a frozen network reads in samples."""
    import torch

    from oakleaf.sampling.latents import SAMPLED_TOGETHER
    from oakleaf.sampling.named_directions import judged_directions, one_against_the_rest

    network, names = _network(module, content, options)
    logits = []
    pieces = zip(*(values.split(SAMPLED_TOGETHER) for values in inputs.values()))
    for piece in pieces:
        batch = {name: part.to(module.device) for name, part in zip(inputs, piece)}
        found = network(module.game.generate(batch).float()).logits
        if found is None:
            raise UserError(f"networks=: {network.source} has no classes; its logits are needed")
        logits.append(found.float().cpu())
    judged = torch.cat(logits)
    if judged.shape[1] != len(names):
        raise UserError(f"names=: the network has {judged.shape[1]} logits, and there are {len(names)} names")
    judged = one_against_the_rest(judged) if options["by"] == "classifier" else judged
    found, left_out = judged_directions(inputs["latent"], judged, names, options["by"], options["share"])
    if left_out:
        log.warning("too few samples on one side, left out: %s", ", ".join(left_out))
    if not found:
        raise UserError("no attribute is read in some samples and not in others; more samples=, or a longer training")
    return found


def _network(module: Any, content: dict[str, Any], options: dict[str, Any]) -> tuple[Any, list[str]]:
    """Return the network that reads samples, with its weights, and the names of its logits."""
    from oakleaf.builder.instantiate import instantiate_allowed
    from oakleaf.frozen.trained import Trained

    network = next((instantiate_allowed(node) for node in options["networks"].values()), None)
    if network is not None and not isinstance(network, Trained):
        network.initialize()
        names = options["names"] or getattr(network, "classes", None)
        if not names:
            raise UserError("names= is missing: the names of the network's logits")
        return network.to(module.device), list(names)
    data = real_data(content, options["split"], options["root"])[0]
    if network is None:
        task: Any = {"attributes": "attributes", "classifier": "label"}[options["by"]]
        if task not in data.columns:
            rows = ", ".join(name for name in data.columns if name in ("label", "attributes")) or "none"
            raise UserError(f"by={options['by']}: data={data.name} has no `{task}`; it has {rows}; by=pca needs none")
        size, training = data.size, instantiate_allowed(options["training"])
        network = Trained(task, data.channels, list(size), len(data.classes), training)  # type: ignore[arg-type]
    network.to(module.device)
    network.initialize(data)
    return network, list(options["names"] or data.classes)


def _table(found: Any) -> str:
    """Return the directions with what was measured, as lines."""
    width = max(len(one.name) for one in found)
    lines = []
    for one in found:
        numbers = "  ".join(f"{name} {value:.3f}" for name, value in one.measured.items())
        lines.append(f"  {one.name.ljust(width)}  {numbers}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

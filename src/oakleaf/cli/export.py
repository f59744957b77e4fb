"""python export.py: from a checkpoint to a generator that others can use."""

import logging
from typing import Any

from omegaconf import DictConfig, OmegaConf

from oakleaf.cli.hardware import import_torch
from oakleaf.cli.main import run_command
from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import make_output_dir

log = logging.getLogger(__name__)


def main() -> None:
    """Run the command."""
    run_command("export", export)


def export(config: DictConfig) -> None:
    """Write the generator in each format, read each file back and compare; then write the model card."""
    if OmegaConf.is_missing(config, "checkpoint"):
        raise UserError("checkpoint= is missing: name a run's folder or a checkpoint file")
    import_torch()
    from oakleaf.builder.instantiate import instantiate_allowed
    from oakleaf.builder.load import gan_from_checkpoint, resolve_recipe
    from oakleaf.config.types import NonNegativeInt
    from oakleaf.config.validate import validate
    from oakleaf.export import model_card
    from oakleaf.export.formats import Format
    from oakleaf.export.generator import ExportedGenerator
    from oakleaf.export.pretrained import push_to_hub
    from oakleaf.export.readme import README, write_readme, write_samples
    from oakleaf.export.write import write_and_verify
    from oakleaf.runtime.checkpoint_io import checkpoint_path, read_checkpoint

    options: Any = OmegaConf.to_container(config, resolve=True)
    texts: dict[str, Any] = {"checkpoint": str, "out": str, "push_to_hub": str | None}
    sharing = {"license": str | None, "samples": NonNegativeInt}
    validate(options, fixed={"": {**texts, "ema": bool, "private": bool, "format": Any, **sharing}})
    formats = {name: instantiate_allowed(node) for name, node in (options.get("format") or {}).items()}
    if wrong := [name for name, one in formats.items() if not isinstance(one, Format)]:
        raise UserError(
            f"format={wrong[0]}: for images (sample.py); generators are exported as safetensors, onnx or pt2"
        )
    if not formats:
        raise UserError("format= is empty: safetensors, onnx or pt2, or several as format=[safetensors,onnx]")
    for one in formats.values():
        one.ready()
    file = checkpoint_path(options["checkpoint"])
    content = read_checkpoint(file)
    module = gan_from_checkpoint(content)
    with module.ema_scope(options["ema"]) as game:
        generator = ExportedGenerator(game)
    card = model_card.model_card(module, generator, resolve_recipe(content["hyper_parameters"]), file, options["ema"])
    out = make_output_dir(options["out"])
    for name, one in formats.items():
        card["files"][name] = write_and_verify(one, name, generator, card, module.game, out)
    model_card.write(card, out)
    if options["samples"] and not generator.needs_condition_rows:  # rows of the training data are not published
        write_samples(module, options["samples"], options["ema"], out)
    write_readme(card, out, options["license"], options["push_to_hub"])
    log.info("%s/%s says how to use it", out, README)
    if options["push_to_hub"]:
        log.info("%s", push_to_hub(out, options["push_to_hub"], options["private"]))

"""python sample.py: from a checkpoint to images."""

import logging
import sys
from typing import Any

from omegaconf import DictConfig, OmegaConf

from oakleaf.cli.frozen import with_frozen_networks
from oakleaf.cli.hardware import import_torch, resolve_device
from oakleaf.cli.main import run_command
from oakleaf.cli.real_data import real_data
from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import make_output_dir

log = logging.getLogger(__name__)

SEEDS = "seeds="
EDIT = "mode=edit takes it"
PROJECT = "mode=project, ages and ppgn take it, and sample.py latents= the latents that mode=project writes"


def main() -> None:
    """Run the command."""
    sys.argv[1:] = [quoted_seeds(argument) for argument in sys.argv[1:]]
    run_command("sample", sample)


def quoted_seeds(argument: str) -> str:
    """Quote a list of seeds, since Hydra reads `seeds=0-35,77` as two values of a sweep; return others unchanged."""
    seeds = argument.removeprefix(SEEDS)
    return f'{SEEDS}"{seeds}"' if argument.startswith(SEEDS) and seeds[:1].isdigit() else argument


def sample(config: DictConfig) -> None:
    """Generate images, and write `grid.png`, and `samples.npy` or a PNG file for each image, into the folder `out`.

    samples.npy holds uint8 [N, H, W, C] for images, float32 [N, d] for points; uint16 or float32, in the values of the
    pictures, if these have more than 8 bits. A mode that moves through latent space is also written as `animation.gif`
    and `animation.mp4`.
    """
    if OmegaConf.is_missing(config, "checkpoint"):
        raise UserError("checkpoint= is missing: name a run's folder or a checkpoint file")
    import_torch()
    from oakleaf.builder.instantiate import instantiate_allowed
    from oakleaf.builder.load import gan_from_checkpoint
    from oakleaf.runtime.checkpoint_io import checkpoint_path, read_checkpoint
    from oakleaf.sampling.sampler import Sampler

    options: Any = OmegaConf.to_container(with_frozen_networks(config, "mode.frozen"), resolve=True)
    _validate(options)
    content = read_checkpoint(options["checkpoint"])
    module = gan_from_checkpoint(content).to(resolve_device(options["device"]))
    mode = instantiate_allowed(options["mode"])
    mode.truncation, mode.checkpoint = options["truncation"], checkpoint_path(options["checkpoint"])
    mode.set_data(lambda: real_data(content, options["split"], options["root"])[0])
    chosen = {key: options[key] for key in ("seed", "condition", "ema", "captions")}
    sampler = Sampler(module, mode, content["hyper_parameters"]["data"], **chosen)
    out = make_output_dir(options["out"])
    files = sampler.write(out, _formats(options.get("format")))
    files += [sampler.draw_grid(out, _true_modes(content)), *sampler.draw_animation(out), *mode.save(out)]
    height, width = sampler.size
    log.info("%s images of %d x %d: %s", f"{sampler.count:,}", height, width, ", ".join(files))


def _formats(nodes: Any) -> list[Any]:
    """Return the chosen formats; the group has those of export.py, too."""
    from oakleaf.builder.instantiate import instantiate_allowed
    from oakleaf.sampling.files import SampleFiles

    formats = {name: instantiate_allowed(node) for name, node in (nodes or {}).items()}
    wrong = [name for name, one in formats.items() if not isinstance(one, SampleFiles)]
    if wrong or not formats:
        given = f"format={wrong[0]}: for generators (export.py)" if wrong else "format= is empty"
        raise UserError(f"{given}; samples are written as npy or png, or both: format=[npy,png]")
    return list(formats.values())


def _true_modes(content: Any) -> Any:
    """Return the means of the true modes of points in the plane; None for any other data."""
    from oakleaf.builder.instantiate import instantiate_allowed
    from oakleaf.builder.load import resolve_recipe

    data = resolve_recipe(content["hyper_parameters"])["data"]
    if (data["size"], data["channels"]) != (1, 2):
        return None
    try:
        return instantiate_allowed(data).modes
    except UserError:  # the data are not here, and the samples are drawn without them
        return None


def _validate(options: Any) -> None:
    from oakleaf.config.types import NonNegativeInt, PositiveInt, Truncation
    from oakleaf.config.validate import validate

    texts: dict[str, Any] = {"checkpoint": str, "out": str, "device": str, "split": str | None, "root": str | None}
    numbers = {"count": PositiveInt, "seed": int, "condition": NonNegativeInt | str | None, "ema": bool, "mode": Any}
    chosen = {"seeds": str | int | list[int] | None, "latents": str | None, "format": Any, "captions": bool}
    chosen |= {"truncation": Truncation | None, "picture": str | None}
    chosen |= {"direction": str | list[str] | None}
    validate(options, fixed={"": {**texts, **numbers, **chosen}})
    takers = {
        "seeds": "only mode=grid takes it",
        "latents": "this mode takes none",
        "picture": PROJECT,
        "direction": EDIT,
    }
    for key, taken in takers.items():
        if options[key] is not None and key not in options["mode"]:
            raise UserError(f"{key}=: {taken}; this mode chooses its latents by seed=")


if __name__ == "__main__":
    main()

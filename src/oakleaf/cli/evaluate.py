"""python evaluate.py: from a checkpoint to numbers with their protocol."""

import logging
import os
import sys
from typing import Any

from omegaconf import DictConfig, OmegaConf

from oakleaf.cli.hardware import import_torch, resolve_device
from oakleaf.cli.main import run_command
from oakleaf.cli.real_data import real_data
from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import make_output_dir, run_dir_of

log = logging.getLogger(__name__)


def main() -> None:
    """Run the command."""
    run_command("evaluate", evaluate)


def evaluate(config: DictConfig) -> None:
    """Compute the metrics, print the table, and write `metrics.json` and the pictures.

    The exit code is 1 if a metric failed that the command named, or if all failed.
    """
    options: Any = OmegaConf.to_container(config, resolve=True)
    if isinstance(config.real, str) or isinstance(config.fake, str):
        results = evaluate_pictures(options)
    elif OmegaConf.is_missing(config, "checkpoint"):
        raise UserError(
            "checkpoint= is missing: name a run's folder or a checkpoint file, or pictures: real= and fake="
        )
    else:
        results = evaluate_checkpoint(options)
    if results.failures and (_named_metrics() or not results.scores):
        sys.exit(1)


def evaluate_checkpoint(options: Any) -> Any:
    """Compute the metrics of a checkpoint and write them.

    Args:
        options: the resolved configuration of evaluate.yaml, in plain containers.

    Returns:
        The `oakleaf.metrics.scores.EvaluationResults`.
    """
    import_torch()
    from oakleaf.builder.instantiate import instantiate_allowed
    from oakleaf.builder.load import gan_from_checkpoint
    from oakleaf.config.types import PositiveInt
    from oakleaf.image_grid import from_bytes
    from oakleaf.metrics.evaluation_data import EvaluationData
    from oakleaf.metrics.scores import SHOWN, sample_count, table, truncated_results, versions, write
    from oakleaf.runtime.checkpoint_io import checkpoint_path, file_hash, read_checkpoint

    _validate(options, PositiveInt)
    file = checkpoint_path(options["checkpoint"])
    content = read_checkpoint(file)
    module = gan_from_checkpoint(content).to(resolve_device(options["device"]))
    data, split, test, not_trained_on, is_test = real_data(content, options["split"], options["root"])
    metrics = {name: instantiate_allowed(node) for name, node in options["metric"].items()}
    fake = sample_count(options["fake"], metrics)
    counts = {"fake": fake, "real": options["real"], "resamples": options["resamples"]}
    how = {
        "is_test": is_test,
        "ema": options["ema"],
        "seed": options["seed"],
        "with_baseline": options["baseline"],
        **counts,
    }
    extractor = instantiate_allowed(options["extractor"])
    evaluation = EvaluationData(module, data, extractor, test=test, not_trained_on=not_trained_on, **how)
    truncations = options["truncation"] if isinstance(options["truncation"], list) else [options["truncation"]]
    evaluation.truncation = truncations[0]
    results = truncated_results(metrics, evaluation, truncations)
    if results.scores:
        results.pictures["samples"] = _sample_figure(evaluation, from_bytes(evaluation.fake.pixels), SHOWN)
    out = make_output_dir(options["out"] or run_dir_of(file))
    about = {"checkpoint": file.name, "checkpoint_hash": file_hash(file), "split": split, **versions()}
    write(results, out, about)
    log.info("%s", table(results))
    if results.scores:
        uses_samples = any(one.uses_samples for one in metrics.values())
        log.info("%s\n%s", _protocol(evaluation, uses_samples), _files(results, out))
    _update_run(run_dir_of(file), results)
    return results


def evaluate_pictures(options: Any) -> Any:
    """Compute the metrics of two sets of pictures, `real` and `fake`, and write them.

    Args:
        options: the resolved configuration of evaluate.yaml; both are a folder, a .zip or a .npy file.

    Returns:
        The `oakleaf.metrics.scores.EvaluationResults`.
    """
    import_torch()
    from pathlib import Path

    from oakleaf.builder.instantiate import instantiate_allowed
    from oakleaf.metrics.picture_sets import PictureSets
    from oakleaf.metrics.scores import evaluate_metrics, table, versions, write

    if options["checkpoint"] != "???" or not all(isinstance(options[key], str) for key in ("real", "fake")):
        raise UserError("real= and fake= are both sets of pictures, without checkpoint=; or both are numbers, with it")
    _validate({**options, "checkpoint": ""}, str)
    metrics = {name: instantiate_allowed(node) for name, node in options["metric"].items()}
    places = {key: Path(options[key]).expanduser() for key in ("real", "fake")}
    further = {"resamples": options["resamples"], "with_baseline": options["baseline"]}
    device, cache = resolve_device(options["device"]), os.environ.get("OAKLEAF_CACHE") or "~/.cache/oakleaf"
    extractor = instantiate_allowed(options["extractor"])
    evaluation = PictureSets(**places, device=device, cache=cache, extractor=extractor, **further)
    results = evaluate_metrics(metrics, evaluation)
    out = make_output_dir(options["out"] or "evaluation")
    write(results, out, versions())
    log.info("%s", table(results))
    if results.scores:
        fake, real = len(evaluation.fake), len(evaluation.real)
        sets = f"{fake:,} pictures of {places['fake']} against {real:,} of {places['real']}"
        log.info("%s\nextractor: %s\n%s", sets, _extractor(evaluation), _files(results, out))
    return results


def _files(results: Any, out: Any) -> str:
    """Name the files that were written."""
    names = ["metrics.json (with each number's protocol)", *(f"{name}.png" for name in results.pictures)]
    return f"{out}/: {', '.join(names)}"


def _update_run(folder: Any, results: Any) -> None:
    """Add the new numbers to the report of the run, and to its summary in W&B, where it has them."""
    from oakleaf.callbacks.alarms import ADVICE
    from oakleaf.report.run import REPORT, RunReport
    from oakleaf.runtime.loggers import log_scores_of_run
    from oakleaf.runtime.run_dir import CONFIG, IgnoreFullDisk

    if (folder / REPORT).is_file():
        with IgnoreFullDisk()(folder / REPORT):
            RunReport(folder, ADVICE).write()
    if (folder / CONFIG).is_file():
        recipe: Any = OmegaConf.to_container(OmegaConf.load(folder / CONFIG))
        log_scores_of_run(folder, recipe, {score.name: score.value for score in results.scores})


def _sample_figure(evaluation: Any, images: Any, most: int) -> Any:
    """Draw the samples of an evaluation."""
    from oakleaf.sampling.figure import draw_samples, images_seen, sample_title

    module = evaluation.module
    title, note = sample_title(module), images_seen(module)
    return draw_samples(module, images, title=title, note=note, modes=evaluation.data.modes, most=most)


def _validate(options: Any, kind: Any) -> None:
    """Check the options; `kind` is the type of `real` and `fake`."""
    from oakleaf.config.types import NonNegativeInt, Truncation
    from oakleaf.config.validate import validate

    if not options.get("metric"):
        raise UserError("metric= is empty: name one, or several as metric=[fid,kid]")
    texts: dict[str, Any] = {"checkpoint": str, "device": str, "split": str | None, "root": str | None}
    numbers: dict[str, Any] = {"fake": kind, "real": kind, "resamples": NonNegativeInt, "seed": int}
    numbers |= {"truncation": Truncation | list[Truncation | None] | None, "ema": bool, "baseline": bool}
    validate(options, fixed={"": {**texts, **numbers, "out": str | None, "extractor": Any, "metric": Any}})


def _named_metrics() -> bool:
    """Whether the command names metrics; of the default ones, some may not fit these data."""
    from hydra.core.hydra_config import HydraConfig

    return any(override.startswith("metric") for override in HydraConfig.get().overrides.task)


def _protocol(evaluation: Any, uses_samples: bool) -> str:
    """The protocol as text for people."""
    from oakleaf.metrics.scores import held_out_description

    module, data = evaluation.module, evaluation.data
    shape = " x ".join(str(side) for side in (data.channels, *data.size))
    network = "the EMA generator" if evaluation.ema and module.generator_ema else "the generator"
    samples, after = f"{len(evaluation.fake):,} samples ({shape}) of {network}", f"after {module.images_seen:,} images"
    if not uses_samples:
        return f"{after}, seed {evaluation.seed}, on {data.name}; {samples} for the picture\nextractor: none"
    compared = f"against {len(evaluation.real):,} real images of {data.name}"
    if evaluation.with_baseline and len(evaluation.held_out) < len(evaluation.fake):
        compared += f"; {len(evaluation.matched):,} of them where there is a baseline (baseline=false: all)"
    lines = [f"{samples} {after}, seed {evaluation.seed}, {compared}"]
    if evaluation.with_baseline:
        lines.append(f"baseline: {held_out_description(evaluation)}, unless metrics.json says otherwise")
    return "\n".join([*lines, f"extractor: {_extractor(evaluation)}"])


def _extractor(evaluation: Any) -> str:
    if evaluation.missing_features_reason:
        return "none"
    known = evaluation.extractor.protocol()
    about = ", ".join(f"{name} {value}" for name, value in known.items() if name != "name")
    return f"{known['name']} ({about})"

"""python evaluate.py: from a checkpoint to numbers with their protocol."""

import logging
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
    if OmegaConf.is_missing(config, "checkpoint"):
        raise UserError("checkpoint= is missing: name a run's folder or a checkpoint file")
    results = evaluate_checkpoint(OmegaConf.to_container(config, resolve=True))
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
    from oakleaf.image_grid import from_bytes
    from oakleaf.metrics.evaluation_data import EvaluationData
    from oakleaf.metrics.scores import SHOWN, sample_count, table, truncated_results, versions, write
    from oakleaf.runtime.checkpoint_io import checkpoint_path, file_hash, read_checkpoint

    _validate(options)
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
        log.info("%s\n%s/metrics.json has each number's protocol", _protocol(evaluation, uses_samples), out)
    return results


def _sample_figure(evaluation: Any, images: Any, most: int) -> Any:
    """Draw the samples of an evaluation."""
    from oakleaf.sampling.figure import draw_samples, images_seen, sample_title

    module = evaluation.module
    title, note = sample_title(module), images_seen(module)
    return draw_samples(module, images, title=title, note=note, modes=evaluation.data.modes, most=most)


def _validate(options: Any) -> None:
    from oakleaf.config.types import NonNegativeInt, PositiveInt, Truncation
    from oakleaf.config.validate import validate

    if not options.get("metric"):
        raise UserError("metric= is empty: name one, or several as metric=[fid,kid]")
    texts: dict[str, Any] = {"checkpoint": str, "device": str, "split": str | None, "root": str | None}
    numbers: dict[str, Any] = {"fake": PositiveInt, "real": PositiveInt, "resamples": NonNegativeInt, "seed": int}
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

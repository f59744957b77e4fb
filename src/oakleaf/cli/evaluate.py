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
    run_command("evaluate", evaluate)


def evaluate(config: DictConfig) -> None:
    """Measure, print the table, and write `metrics.json` and the pictures. Exit code 1 if a measure failed that was
    asked for, or all did."""
    if OmegaConf.is_missing(config, "checkpoint"):
        raise UserError("checkpoint= is missing: name a run's folder or a checkpoint file")
    import_torch()
    from oakleaf.builder.recipe import instantiate_allowed, module_from_checkpoint
    from oakleaf.config.types import PositiveFloat, PositiveInt
    from oakleaf.config.validate import validate
    from oakleaf.image_grid import from_bytes, render
    from oakleaf.metrics.evaluation_data import EvaluationData
    from oakleaf.metrics.scores import SHOWN, evaluate_metrics, sample_count, table, versions, write
    from oakleaf.runtime.checkpoint_io import checkpoint_path, file_hash, read_checkpoint

    options: Any = OmegaConf.to_container(config, resolve=True)
    if not options.get("metric"):
        raise UserError("metric= is empty: name one, or several as metric=[fid,kid]")
    words: dict[str, Any] = {"checkpoint": str, "device": str, "split": str | None, "root": str | None}
    numbers = {
        "fake": PositiveInt,
        "real": PositiveInt,
        "seed": int,
        "truncation": PositiveFloat | None,
        "ema": bool,
    }
    validate(options, fixed={"": {**words, **numbers, "out": str | None, "extractor": Any, "metric": Any}})
    file = checkpoint_path(options["checkpoint"])
    changes = {"model.game.prior.truncation": options["truncation"]} if options["truncation"] else {}
    content = read_checkpoint(file)
    module = module_from_checkpoint(content, changes).to(resolve_device(options["device"]))
    reals = real_data(content, options["split"], options["root"])
    measures = {name: instantiate_allowed(node) for name, node in options["metric"].items()}
    fake = sample_count(options["fake"], measures)
    real = max(options["real"], 2 * fake)  # as many may be held out for the real line
    extractor, ema, seed = instantiate_allowed(options["extractor"]), options["ema"], options["seed"]
    evaluation = EvaluationData(module, reals.data, extractor, fake, real, ema, seed, reals.test, reals.unseen)
    findings = evaluate_metrics(measures, evaluation)
    if findings.scores:
        findings.pictures["samples"] = render(from_bytes(evaluation.fake.pixels), most=SHOWN)
    out = make_output_dir(options["out"] or run_dir_of(file))
    about = {"checkpoint": file.name, "checkpoint_hash": file_hash(file), "split": reals.split, **versions()}
    write(findings, out, about)
    log.info("%s", table(findings))
    if findings.scores:
        uses_samples = any(one.uses_samples for one in measures.values())
        log.info("%s\n%s/metrics.json has each number's protocol", _words(evaluation, uses_samples), out)
    if findings.failures and (_chosen() or not findings.scores):
        sys.exit(1)


def _chosen() -> bool:
    """Whether the command names measures; else some of the usual ones may not suit these data."""
    from hydra.core.hydra_config import HydraConfig

    return any(override.startswith("metric") for override in HydraConfig.get().overrides.task)


def _words(evaluation: Any, uses_samples: bool) -> str:
    """The protocol, as one line for people."""
    module, data = evaluation.module, evaluation.data
    shape = " x ".join(str(side) for side in data.rows["image"].shape[1:])
    drawn = "the average of G" if evaluation.ema and module.generator_ema else "G"
    samples, after = f"{len(evaluation.fake):,} samples ({shape}) of {drawn}", f"after {module.images_seen:,} images"
    if not uses_samples:
        return f"{after}, seed {evaluation.seed}, on {data.name}; {samples} to look at\nextractor: none"
    reference, held_out = evaluation.baseline
    return (
        f"{samples} {after}, seed {evaluation.seed}, beside {len(evaluation.real):,} real ones of {data.name}; real: "
        f"{len(held_out):,} held out beside {len(reference):,}\nextractor: {_extractor(evaluation)}"
    )


def _extractor(evaluation: Any) -> str:
    if evaluation.missing_features_reason:
        return "none"
    known = evaluation.extractor.protocol()
    about = ", ".join(f"{name} {value}" for name, value in known.items() if name != "name")
    return f"{known['name']} ({about})"


if __name__ == "__main__":
    main()

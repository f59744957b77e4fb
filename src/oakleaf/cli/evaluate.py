"""python evaluate.py: from a checkpoint to numbers with their protocol."""

import logging
import sys
from typing import Any

from omegaconf import DictConfig, OmegaConf

from oakleaf.cli.hardware import libraries, there
from oakleaf.cli.main import enter
from oakleaf.cli.real_data import real_images
from oakleaf.errors import Mistake
from oakleaf.runtime.run_dir import beside, made

log = logging.getLogger(__name__)


def main() -> None:
    enter("evaluate", evaluate)


def evaluate(config: DictConfig) -> None:
    """Measure, print the table, and write `metrics.json` and the pictures. Exit code 1 if a measure failed that was
    asked for, or all did."""
    if OmegaConf.is_missing(config, "checkpoint"):
        raise Mistake("checkpoint= is missing: name a run's folder or a checkpoint file")
    libraries()
    from oakleaf.builder.recipe import make, opened
    from oakleaf.config.types import Count, Positive
    from oakleaf.config.validate import check
    from oakleaf.image_grid import from_bytes, picture
    from oakleaf.metrics.evaluation_data import Evidence
    from oakleaf.metrics.scores import SHOWN, enough, measure, table, versions, write
    from oakleaf.runtime.checkpoint_io import digest, find, read

    asked: Any = OmegaConf.to_container(config, resolve=True)
    if not asked.get("metric"):
        raise Mistake("metric= is empty: name one, or several as metric=[fid,kid]")
    words: dict[str, Any] = {"checkpoint": str, "device": str, "split": str | None, "root": str | None}
    numbers = {"fake": Count, "real": Count, "seed": int, "truncation": Positive | None, "average": bool}
    check(asked, fixed={"": {**words, **numbers, "out": str | None, "extractor": Any, "metric": Any}})
    file = find(asked["checkpoint"])
    changes = {"model.game.prior.truncation": asked["truncation"]} if asked["truncation"] else {}
    content = read(file)
    module = opened(content, changes).to(there(asked["device"]))
    reals = real_images(content, asked["split"], asked["root"])
    measures = {name: make(node) for name, node in asked["metric"].items()}
    fake = enough(asked["fake"], measures)
    real = max(asked["real"], 2 * fake)  # as many may be held out for the real line
    extractor, average, seed = make(asked["extractor"]), asked["average"], asked["seed"]
    evidence = Evidence(module, reals.data, extractor, fake, real, average, seed, reals.test, reals.unseen)
    findings = measure(measures, evidence)
    if findings.scores:
        findings.pictures["samples"] = picture(from_bytes(evidence.fake.pixels), most=SHOWN)
    out = made(asked["out"] or beside(file))
    about = {"checkpoint": file.name, "checkpoint_hash": digest(file), "split": reals.split, **versions()}
    write(findings, out, about)
    log.info("%s", table(findings))
    if findings.scores:
        of_samples = any(one.of_samples for one in measures.values())
        log.info("%s\n%s/metrics.json has each number's protocol", _words(evidence, of_samples), out)
    if findings.failures and (_chosen() or not findings.scores):
        sys.exit(1)


def _chosen() -> bool:
    """Whether the command names measures; else some of the usual ones may not suit these data."""
    from hydra.core.hydra_config import HydraConfig

    return any(override.startswith("metric") for override in HydraConfig.get().overrides.task)


def _words(evidence: Any, of_samples: bool) -> str:
    """The protocol, as one line for people."""
    module, data = evidence.module, evidence.data
    shape = " x ".join(str(side) for side in data.rows["image"].shape[1:])
    drawn = "the average of G" if evidence.average and module.average else "G"
    samples, after = f"{len(evidence.fake):,} samples ({shape}) of {drawn}", f"after {module.images:,} images"
    if not of_samples:
        return f"{after}, seed {evidence.seed}, on {data.name}; {samples} to look at\nextractor: none"
    reference, held_out = evidence.calibration
    return (
        f"{samples} {after}, seed {evidence.seed}, beside {len(evidence.real):,} real ones of {data.name}; real: "
        f"{len(held_out):,} held out beside {len(reference):,}\nextractor: {_extractor(evidence)}"
    )


def _extractor(evidence: Any) -> str:
    if evidence.blind:
        return "none"
    known = evidence.extractor.protocol()
    about = ", ".join(f"{name} {value}" for name, value in known.items() if name != "name")
    return f"{known['name']} ({about})"


if __name__ == "__main__":
    main()

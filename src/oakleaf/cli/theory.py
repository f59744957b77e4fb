"""python theory.py: what a paper proves, measured."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from oakleaf.cli.hardware import import_torch
from oakleaf.cli.main import run_command
from oakleaf.config.paths import conf_dir
from oakleaf.errors import UserError
from oakleaf.runtime.run_dir import make_output_dir

if TYPE_CHECKING:
    from oakleaf.theory.finding import Finding

log = logging.getLogger(__name__)


def main() -> None:
    run_command("theory", theory)


def theory(config: DictConfig) -> None:
    """Run one lab, print its table and its checks, and write `<out>/<lab>.png` and `<out>/<lab>.json`.

    Raises:
        UserError: no lab, or a claim that does not hold.
    """
    if not config.get("lab"):
        labs = sorted(path.stem for path in (conf_dir() / "lab").glob("*.yaml"))
        raise UserError(f"lab= is missing: one of {', '.join(labs)}")
    import_torch()
    from hydra.core.hydra_config import HydraConfig

    from oakleaf.builder.instantiate import instantiate_allowed
    from oakleaf.config.validate import validate

    options: Any = OmegaConf.to_container(config, resolve=True)
    validate(options, fixed={"": {"lab": Any, "out": str, "seed": int}})
    name = HydraConfig.get().runtime.choices["lab"]
    finding = instantiate_allowed(options["lab"]).run()
    log.info("%s\n%s", name, finding)
    place = write(finding, Path(options["out"]), name)
    log.info("%s.png, %s.json", place, place)
    failed = [claim for claim in finding.checks if not claim.held]
    if failed:
        raise UserError(f"lab={name}: {len(failed)} of {len(finding.checks)} claims failed")


def write(finding: "Finding", out: Path, name: str) -> Path:
    """The picture and the numbers; returns their path without suffix."""
    place = make_output_dir(out) / name
    finding.figure.savefig(place.with_suffix(".png"), dpi=90)
    content = {"table": finding.table, "checks": [claim.plain() for claim in finding.checks]}
    place.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    return place


if __name__ == "__main__":
    main()

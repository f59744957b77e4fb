"""python theory.py: measure what a paper proves."""

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
    from oakleaf.theory.result import LabResult

log = logging.getLogger(__name__)


def main() -> None:
    """Run the command."""
    run_command("theory", theory)


def theory(config: DictConfig) -> None:
    """Run one lab, print its table and its checks, and write `<out>/<lab>.png` and `<out>/<lab>.json`.

    Raises:
        UserError: no lab was chosen, or a check failed.
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
    result = instantiate_allowed(options["lab"]).run()
    log.info("%s\n%s", name, result)
    path = write(result, Path(options["out"]), name)
    log.info("%s.png, %s.json", path, path)
    failed = [check for check in result.checks if not check.passed]
    if failed:
        raise UserError(f"lab={name}: {len(failed)} of {len(result.checks)} checks failed")


def write(result: "LabResult", out: Path, name: str) -> Path:
    """Write the figure, and the table and checks as JSON.

    Returns:
        The path of both files, without suffix.
    """
    path = make_output_dir(out) / name
    result.figure.savefig(path.with_suffix(".png"), dpi=90)
    content = {"table": result.table, "checks": [check.as_dict() for check in result.checks]}
    path.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    return path

"""The report as a run of its own in W&B, in the group of the sweep's runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf


def show(folder: Path, wandb: Any, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The ranking as a table, the sheet as a picture, and both files; opened and closed here."""
    from oakleaf.runtime.loggers import WeightsAndBiases

    project = OmegaConf.select(wandb, "project") or "oakleaf"
    logger = WeightsAndBiases(str(folder), project, "report", folder.name, ["sweep"], "report")
    try:
        if logger.run:
            import wandb as library

            table = library.Table(columns=[name or "rank" for name in header], data=[list(row) for row in rows])
            logger.run.log({"ranking": table})
            if (folder / "sheet.png").is_file():
                logger.run.log({"samples": library.Image(str(folder / "sheet.png"))})
            for name in ("report.md", "results.csv"):
                logger.run.save(str(folder / name), base_path=str(folder), policy="now")
    finally:
        logger.finalize("success")

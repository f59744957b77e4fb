"""The report of a sweep in Weights & Biases."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf


def log_report(
    folder: Path, config: Any, header: Sequence[str], rows: Sequence[Sequence[str]], files: list[str]
) -> None:
    """Log the report as a W&B run of its own, in the group of the sweep's runs.

    Args:
        folder: the sweep's folder, whose name is that of the group.
        config: the jobs' W&B logger as configured.
        header: names of the ranking's columns.
        rows: the ranking.
        files: names of the report's files in the folder; the PNG is logged as an image.
    """
    from oakleaf.runtime.loggers import WeightsAndBiases

    project, entity = (OmegaConf.select(config, key) for key in ("project", "entity"))
    logger = WeightsAndBiases(str(folder), project, "report", folder.name, ["sweep"], "report", entity)
    try:
        if logger.run:
            import wandb

            table = wandb.Table(columns=[name or "rank" for name in header], data=[list(row) for row in rows])
            logger.run.log({"ranking": table})
            for name in files:
                if name.endswith(".png"):
                    logger.run.log({"samples": wandb.Image(str(folder / name), caption="best run of each combination")})
                elif name.endswith(".html"):
                    logger.log_file("report", folder / name)
                else:
                    logger.run.save(str(folder / name), base_path=str(folder), policy="now")
    finally:
        logger.finalize("success")

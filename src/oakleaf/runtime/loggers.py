"""Where scalars and pictures go. Lightning's loggers may stand beside these."""

import csv
import logging
import os
import socket
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from oakleaf.errors import first_line
from oakleaf.runtime.run_dir import IgnoreFullDisk, atomic_write

log = logging.getLogger(__name__)


class MetricsCSV(Logger):
    """`metrics.csv`: one row a look, `images` first. A resumed run drops the rows that it will write again, which
    Lightning's own CSV logger does not: it begins with an empty file. Rows for which there is no room are left out; it
    is said once, and the run goes on.
    """

    name, version = "table", ""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self.columns: list[str] | None = None
        self.ignore_full_disk = IgnoreFullDisk()

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """The run's config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        row = {"images": step, **metrics}
        with self.ignore_full_disk(self.path):
            if self.columns is None or not row.keys() <= set(self.columns):
                self._rewrite(row)
            self._append(row)

    def _append(self, row: Mapping[str, Any]) -> None:
        size = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self.columns or list(row)).writerow(row)
        except OSError:
            os.truncate(self.path, size)  # the row's beginning, to which the next would be joined
            raise

    def _rewrite(self, row: Mapping[str, Any]) -> None:
        """Make room for the row: its columns beside the old ones, and, as a run begins to write, only older rows."""
        old: list[dict[str, str]] = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                old = [r for r in csv.DictReader(file) if self.columns or _number(r["images"]) < row["images"]]
        columns = list(dict.fromkeys([*(name for r in old[:1] for name in r), *row]))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.path) as part, part.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(old)
        self.columns = columns


def _number(text: str | None) -> float:
    """A row's place; a line that a kill cut short belongs nowhere."""
    return int(text) if text and text.isdigit() else float("inf")


class WeightsAndBiases(Logger):
    """A W&B run that never asks, hangs or fails: online where somebody is logged in and the server answers within
    seconds, else offline in `<folder>/wandb`. `WANDB_MODE` decides where it is set.

    The x-axis is images seen; a resumed run goes on in the same W&B run.
    """

    name, version = "wandb", ""

    def __init__(
        self,
        folder: str,
        project: str = "oakleaf",
        name: str | None = None,
        group: str | None = None,
        tags: list[str] | None = None,
        job_type: str | None = None,
    ) -> None:
        super().__init__()
        self.folder = Path(folder)
        # what is left empty, a sweep says by the environment: WANDB_RUN_GROUP, WANDB_TAGS, ...
        said = {"name": name, "group": group, "tags": tags, "job_type": job_type}
        self.settings = {"project": project, **{key: value for key, value in said.items() if value}}
        self.config: dict[str, Any] = {}
        self._run: Any = None

    @property
    def run(self) -> Any:
        """The W&B run, opened at first use; None if W&B itself fails."""
        if self._run is None:
            self._run = self._open()
        return self._run or None

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        self.config = dict(params)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self.run:
            self.run.log({"images": step, **metrics})

    @rank_zero_only
    def log_image(self, name: str, path: Path, images: int) -> None:
        if self.run:
            import wandb

            media = wandb.Video(str(path), format="gif") if path.suffix == ".gif" else wandb.Image(str(path))
            self.run.log({"images": images, name: media})

    @rank_zero_only
    def send_alert(self, title: str, text: str) -> None:
        """A message to whoever asked W&B for alerts, by mail or Slack; offline it is kept in the run."""
        if self.run:
            self.run.alert(title=title, text=text, level="WARN")

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self._run:
            self._run.finish(exit_code=0 if status == "success" else 1)
            self._run = False  # closed for good

    def _open(self) -> Any:
        import wandb

        if not os.environ.get("WANDB_MODE"):
            os.environ.pop("WANDB_MODE", None)  # W&B refuses an empty one
        mode = os.environ.get("WANDB_MODE") or ("online" if _logged_in() and _answers() else "offline")
        if mode == "offline":
            log.info("W&B runs offline; later: wandb sync %s", self.folder / "wandb" / "offline-run-*")
        quiet = wandb.Settings(silent=True, console="off", init_timeout=20)
        arguments: dict[str, Any] = {
            **self.settings,
            "dir": str(self.folder),
            "config": self.config,
            "id": self._id(),
            "resume": "allow",
        }
        for choice in dict.fromkeys([mode, "offline", "disabled"]):
            try:
                run = wandb.init(**{**arguments, "mode": choice}, settings=quiet)
                run.define_metric("images")
                run.define_metric("*", step_metric="images")
                return run
            except Exception as error:  # whatever W&B stumbles over must not end the training
                log.warning("W&B can't run %s: %s", choice, first_line(error))
        return False

    def _id(self) -> str:
        file = self.folder / "wandb-id"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(uuid.uuid4().hex[:8])
        return file.read_text().strip()


class TensorBoard(TensorBoardLogger):
    """Lightning's, in `<folder>/tensorboard`. A full disk ends its writing, which is said once, and the run goes on;
    its own thread may add a traceback.
    """

    def __init__(self, folder: str) -> None:
        super().__init__(folder, name="", version="tensorboard")
        self.ignore_full_disk = IgnoreFullDisk()

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        with self.ignore_full_disk(Path(self.log_dir)):
            super().log_hyperparams(params)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self.ignore_full_disk.said:
            return
        with self.ignore_full_disk(
            Path(self.log_dir)
        ):  # Lightning's own would take a full disk for an unknown kind of number
            for name, value in metrics.items():
                self.experiment.add_scalar(name, value, step)

    @rank_zero_only
    def log_image(self, name: str, path: Path, images: int) -> None:
        """A picture; it has no films."""
        import numpy as np
        from PIL import Image

        if path.suffix != ".png" or self.ignore_full_disk.said:
            return
        picture = np.asarray(Image.open(path).convert("RGB"))
        with self.ignore_full_disk(Path(self.log_dir)):
            self.experiment.add_image(name, picture, images, dataformats="HWC")

    @rank_zero_only
    def save(self) -> None:
        with self.ignore_full_disk(Path(self.log_dir)):
            super().save()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        with self.ignore_full_disk(Path(self.log_dir)):
            super().finalize(status)


def _server() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def _logged_in() -> bool:
    """Whether a key is at hand, in the environment or in .netrc, without asking for one."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    from requests.utils import get_netrc_auth

    return get_netrc_auth(_server()) is not None


def _answers(seconds: float = 3.0) -> bool:
    """Whether the server can be reached at all; wandb.init alone would wait for a minute and a half."""
    url = urlparse(_server())
    try:
        with socket.create_connection((url.hostname or "", url.port or 443), timeout=seconds):
            return True
    except OSError:
        return False


def log_scalars(loggers: Iterable[Logger], scalars: Mapping[str, float], images: int) -> None:
    """Scalars to every logger."""
    for logger in loggers:
        logger.log_metrics(dict(scalars), step=images)


def log_image(loggers: Iterable[Any], name: str, path: Path, images: int) -> None:
    """A picture or film to every logger that takes one."""
    for logger in loggers:
        if isinstance(logger, (WeightsAndBiases, TensorBoard)):
            logger.log_image(name, path, images)


def send_alert(loggers: Iterable[Any], title: str, text: str) -> None:
    """A warning to every logger that passes it on; one that fails must not end the training."""
    for logger in loggers:
        if isinstance(logger, WeightsAndBiases):
            try:
                logger.send_alert(title, text)
            except Exception as error:
                log.warning("W&B takes no alert: %s", error)

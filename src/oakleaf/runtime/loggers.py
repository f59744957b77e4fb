"""Loggers for scalars and images. They can be combined with Lightning's own loggers.

The step of every logger is the number of images seen (`log_over_images`), not Lightning's count of batches or steps.
"""

import csv
import functools
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import OmegaConf

from oakleaf.errors import first_line
from oakleaf.runtime.run_dir import IgnoreFullDisk, atomic_write

log = logging.getLogger(__name__)


class MetricsCSV(Logger):
    """Logger that writes `metrics.csv` in the run's folder, one row for each logging step.

    The first column `images` is the number of images seen, the second one `seconds` the time of training so far, that
    before a resume included; a scalar that a row does not have is an empty cell. When a
    resumed run writes its first row, the rows that it will write again are removed; Lightning's CSVLogger starts an
    empty file. If the disk is full, the row is left out, which is logged once, and training continues.

    Args:
        folder: the run's folder.

    Attributes:
        start: images seen when the training started or resumed; None if it is not known, and then the rows of the same
            or more images than the first row's are those that are removed.
    """

    name, version = "csv", ""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self.start: int | None = None
        self.columns: list[str] | None = None
        self.ignore_full_disk = IgnoreFullDisk()
        self.begin = time.perf_counter()  # so that `seconds` of a resumed run go on

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Do nothing: the run's `config.yaml` has them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row; a scalar with a new name adds a column.

        Args:
            metrics: scalars by name.
            step: images seen.
        """
        row = {"images": step, "seconds": 0.0, **metrics}
        with self.ignore_full_disk(self.path):
            if self.columns is None or not row.keys() <= set(self.columns):
                self._rewrite(row)
            self._append({**row, "seconds": round(time.perf_counter() - self.begin, 2)})

    def _append(self, row: Mapping[str, Any]) -> None:
        size = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self.columns or list(row)).writerow(row)
        except OSError:
            os.truncate(self.path, size)  # remove the incomplete row
            raise

    def _rewrite(self, row: Mapping[str, Any]) -> None:
        """Write the file again with the columns of `row`; before the first row of this run, without later rows."""
        old: list[dict[str, str]] = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                old = [r for r in csv.DictReader(file) if self.columns or self._stays(r, row)]
        if self.columns is None and old:
            self.begin -= _number(old[-1].get("seconds"))
        columns = list(dict.fromkeys([*(name for r in old[:1] for name in r), *row]))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(old)
        self.columns = columns

    def _stays(self, old: Mapping[str, str], row: Mapping[str, Any]) -> bool:
        """Tell whether this run will not write an old row again; `row` is its first one."""
        images = _images_of(old["images"])
        if self.start is None:
            return images < row["images"]
        if images == self.start == row["images"]:  # a row before the first iteration, as one of learning rates is
            return not any(old.get(name) for name in row if name not in ("images", "seconds"))
        return images <= self.start


def _number(text: str | None) -> float:
    """Return the number of a cell; 0 for a cell that is empty or damaged."""
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def _images_of(text: str | None) -> float:
    """Return the images seen of a row; infinity for a row that was not written completely, so that it is removed."""
    return int(text) if text and text.isdigit() else float("inf")


class WeightsAndBiases(Logger):
    """Logger for Weights & Biases that never waits for input and never ends a training.

    It is online if the user is logged in and the server can be reached within three seconds, else offline in
    `<folder>/wandb`; the environment variable `WANDB_MODE` overrides this. If W&B fails, training continues without
    it. The x-axis is the number of images seen. A resumed run continues the same W&B run, whose id is in
    `<folder>/wandb-id`.

    What is null is read from W&B's own environment variables, which a sweep sets for its jobs, and otherwise follows
    from the run.

    Args:
        folder: the run's folder; W&B's files are below it, or below WANDB_DIR.
        project: W&B project; null: WANDB_PROJECT, or "oakleaf".
        name: name of the W&B run; null: WANDB_NAME, or `<model>-<data>-<name of the folder>`.
        group: group of runs; null: WANDB_RUN_GROUP, or `<model>-<data>`.
        tags: tags of the run; empty: WANDB_TAGS.
        job_type: W&B job type; null: WANDB_JOB_TYPE, or "train".
        entity: W&B user or team that owns the project; null: WANDB_ENTITY, or the user's default.

    Attributes:
        is_new: whether name, group and job type are set; otherwise a run that has them is only added to.
    """

    name, version = "wandb", ""

    def __init__(
        self,
        folder: str,
        project: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: list[str] | None = None,
        job_type: str | None = None,
        entity: str | None = None,
    ) -> None:
        super().__init__()
        self.folder = Path(folder)
        options = {"project": project, "name": name, "group": group, "tags": tags, "job_type": job_type}
        self.options = {key: value for key, value in {**options, "entity": entity}.items() if value}
        self.config: dict[str, Any] = {}
        self.is_new = True
        self._run: Any = None

    @property
    def run(self) -> Any:
        """The W&B run, opened at first use; None if W&B fails."""
        if self._run is None:
            self._run = self._open()
        return self._run or None

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Keep the configuration, which is passed to W&B when the run is opened."""
        self.config = dict(params)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log scalars at a number of images seen (`step`)."""
        if self.run:
            self.run.log({"images": step, **metrics})

    @rank_zero_only
    def log_image(self, name: str, path: Path, images: int) -> None:
        """Log an image file, or an animated GIF as a video, at a number of images seen, which is the caption too."""
        if self.run:
            import wandb

            caption = f"{images:,} images seen"
            if path.suffix == ".gif":
                media: Any = wandb.Video(str(path), caption=caption, format="gif")
            else:
                media = wandb.Image(str(path), caption=caption)
            self.run.log({"images": images, name: media})

    @rank_zero_only
    def log_table(self, name: str, labels: Sequence[str], pictures: Sequence[Any], images: int) -> None:
        """Log a table with a row for each image and its label, such as its class, at a number of images seen."""
        if self.run:
            import wandb

            rows = [[label, wandb.Image(picture, caption=label)] for label, picture in zip(labels, pictures)]
            self.run.log({"images": images, name: wandb.Table(columns=["condition", "sample"], data=rows)})

    @rank_zero_only
    def log_file(self, name: str, path: Path) -> None:
        """Store a file as an artifact, and an HTML page as a panel too."""
        if self.run:
            import wandb

            artifact = wandb.Artifact(f"{name}-{self.run.id}", type=name)
            artifact.add_file(str(path))
            self.run.log_artifact(artifact)
            if path.suffix == ".html":
                self.run.log({name: wandb.Html(path.read_text(), inject=False)})

    @rank_zero_only
    def log_summary(self, values: Mapping[str, float]) -> None:
        """Store final values, by which W&B's table of runs can be sorted."""
        if self.run:
            self.run.summary.update(dict(values))

    @rank_zero_only
    def send_alert(self, title: str, text: str) -> None:
        """Send a W&B alert, by mail or Slack as the user has set up; offline it is stored in the run."""
        if self.run:
            self.run.alert(title=title, text=text, level="WARN")

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the W&B run."""
        if self._run:
            self._run.finish(exit_code=0 if status == "success" else 1)
            self._run = False  # it is not opened again

    def _open(self) -> Any:
        """Return a new or continued W&B run, in the first mode that works; False if none does."""
        import wandb

        for name in [name for name, value in os.environ.items() if name.startswith("WANDB_") and not value]:
            del os.environ[name]  # W&B rejects empty values
        if os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes"):  # of Hugging Face's Trainer
            os.environ["WANDB_MODE"] = "disabled"
        mode = os.environ.get("WANDB_MODE") or ("online" if _is_logged_in() and _is_reachable() else "offline")
        place = Path(os.environ.get("WANDB_DIR") or self.folder)
        if mode == "offline":
            log.info("W&B is offline; to upload the run later: wandb sync %s", place / "wandb" / "offline-run-*")
        quiet = wandb.Settings(silent=True, console="off", init_timeout=20)
        known: dict[str, Any] = {"dir": str(place), "config": self.config, "id": self._id(), "resume": "allow"}
        for choice in dict.fromkeys([mode, "offline", "disabled"]):
            try:
                place.mkdir(parents=True, exist_ok=True)
                run = wandb.init(**{**self.settings(), **known, "mode": choice}, settings=quiet)
                run.define_metric("images")
                run.define_metric("*", step_metric="images")
                return run
            except Exception as error:  # no failure of W&B may end the training
                log.warning("W&B cannot start in mode %s: %s", choice, first_line(error))
        return False

    def settings(self) -> dict[str, Any]:
        """Return what `wandb.init` is told about project, name, group and job type.

        What the environment has is left out, so that W&B reads it.
        """
        names = [(self.config.get(group) or {}).get("name") for group in ("model", "data")]
        system = "-".join(str(name) for name in names if name)
        own = {
            "project": ("WANDB_PROJECT", "oakleaf"),
            "name": ("WANDB_NAME", f"{system}-{self.folder.name}".strip("-")),
            "group": ("WANDB_RUN_GROUP", system),
            "job_type": ("WANDB_JOB_TYPE", "train"),
        }
        missing = {key: value for key, (variable, value) in own.items() if value and not os.environ.get(variable)}
        kept = missing if self.is_new else {key: value for key, value in missing.items() if key == "project"}
        return {**kept, **self.options}

    def _id(self) -> str:
        """Return the id of the W&B run: WANDB_RUN_ID, or one that the first process of the run has created."""
        file = self.folder / "wandb-id"
        given = os.environ.get("WANDB_RUN_ID")
        if given or not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(given or uuid.uuid4().hex[:8])
        return file.read_text().strip()


class TensorBoard(TensorBoardLogger):
    """Lightning's TensorBoard logger in `<folder>/tensorboard`, which a full disk does not end.

    After the first failed write nothing more is written, which is logged once; training continues. TensorBoard's own
    thread may print a traceback.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: str) -> None:
        super().__init__(folder, name="", version="tensorboard")
        self.ignore_full_disk = IgnoreFullDisk()

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Log the configuration, for the tab of hyperparameters and as text."""
        with self.ignore_full_disk(Path(self.log_dir)):
            super().log_hyperparams(params)
            text = OmegaConf.to_yaml(OmegaConf.create(dict(params)))
            self.experiment.add_text("configuration", f"```yaml\n{text}```")

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log scalars at a number of images seen (`step`)."""
        if self.ignore_full_disk.failed:
            return
        # not Lightning's own method, which reports any error as an unsupported type of value
        with self.ignore_full_disk(Path(self.log_dir)):
            for name, value in metrics.items():
                self.experiment.add_scalar(name, value, step)

    @rank_zero_only
    def log_image(self, name: str, path: Path, images: int) -> None:
        """Log a PNG file at a number of images seen; animated GIFs are left out."""
        import numpy as np
        from PIL import Image

        if path.suffix != ".png" or self.ignore_full_disk.failed:
            return
        pixels = np.asarray(Image.open(path).convert("RGB"))
        with self.ignore_full_disk(Path(self.log_dir)):
            self.experiment.add_image(name, pixels, images, dataformats="HWC")

    @rank_zero_only
    def send_alert(self, title: str, text: str) -> None:
        """Log a warning as text."""
        if not self.ignore_full_disk.failed:
            with self.ignore_full_disk(Path(self.log_dir)):
                self.experiment.add_text(f"alarm/{title}", text)

    @rank_zero_only
    def save(self) -> None:
        """Write what is buffered to the disk."""
        with self.ignore_full_disk(Path(self.log_dir)):
            super().save()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the files."""
        with self.ignore_full_disk(Path(self.log_dir)):
            super().finalize(status)


def _server() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def _is_logged_in() -> bool:
    """Tell whether there is a key in the environment or in .netrc; `wandb.login` would prompt for one."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    from requests.utils import get_netrc_auth

    return get_netrc_auth(_server()) is not None


def _is_reachable(seconds: float = 3.0) -> bool:
    """Tell whether the server can be reached; `wandb.init` by itself would wait for a minute and a half."""
    url = urlparse(_server())
    try:
        with socket.create_connection((url.hostname or "", url.port or 443), timeout=seconds):
            return True
    except OSError:
        return False


def log_over_images(trainer: Trainer) -> None:
    """Make the images seen the step of everything that the Trainer's loggers receive.

    Lightning itself (`self.log`) and callbacks such as `LearningRateMonitor` pass a count of batches.

    Args:
        trainer: its loggers' method `log_metrics` is replaced.
    """
    for logger in trainer.loggers:
        logger.log_metrics = _over_images(logger.log_metrics, trainer)  # type: ignore[method-assign]


def _over_images(log_metrics: Callable[..., None], trainer: Trainer) -> Callable[..., None]:
    @functools.wraps(log_metrics)
    def log(metrics: Mapping[str, float], step: int | None = None) -> None:
        log_metrics(metrics, step=getattr(trainer.lightning_module, "images_seen", step))

    return log


def log_scalars(trainer: Trainer, scalars: Mapping[str, float]) -> None:
    """Log scalars to every logger over the images seen, and put them into `trainer.callback_metrics`.

    Callbacks that monitor one of them, as `EarlyStopping` and `ModelCheckpoint` do, check it at the end of the
    iteration (`oakleaf.runtime.monitors`). For a value of a single iteration `GAN.log_scalar` is cheaper.

    Args:
        trainer: the run's Trainer.
        scalars: values by logged name.
    """
    images = trainer.lightning_module.images_seen
    for logger in trainer.loggers:
        logger.log_metrics(dict(scalars), step=images)  # type: ignore[arg-type]
    trainer.callback_metrics.update({name: torch.tensor(value) for name, value in scalars.items()})


def log_image(loggers: Iterable[Any], name: str, path: Path, images: int) -> None:
    """Log an image file to every logger that supports images.

    Args:
        loggers: the Trainer's loggers.
        name: logged name.
        path: a PNG or an animated GIF.
        images: images seen, the step.
    """
    for logger in loggers:
        if isinstance(logger, (WeightsAndBiases, TensorBoard)):
            logger.log_image(name, path, images)


def log_file(loggers: Iterable[Any], name: str, path: Path) -> None:
    """Store a file of the run with every logger that stores files; a failure is logged and does not end the training.

    Args:
        loggers: the Trainer's loggers.
        name: what the file is, such as "report".
        path: the file; nothing is stored if it does not exist.
    """
    for logger in loggers:
        if isinstance(logger, WeightsAndBiases) and path.is_file():
            try:
                logger.log_file(name, path)
            except Exception as error:
                log.warning("%s could not be stored in W&B: %s", path.name, error)


def send_alert(loggers: Iterable[Any], title: str, text: str) -> None:
    """Send a warning by every logger that supports alerts; a failure is logged and does not end the training.

    Args:
        loggers: the Trainer's loggers.
        title: short name of the warning.
        text: the message.
    """
    for logger in loggers:
        if isinstance(logger, (WeightsAndBiases, TensorBoard)):
            try:
                logger.send_alert(title, text)
            except Exception as error:
                log.warning("the alert could not be sent to %s: %s", type(logger).__name__, error)


def log_table(loggers: Iterable[Any], name: str, labels: Sequence[str], pictures: Sequence[Any], images: int) -> None:
    """Log samples with what they are conditioned on, to every logger that has tables.

    Args:
        loggers: the Trainer's loggers.
        name: logged name.
        labels: class or text of each sample.
        pictures: the samples, uint8 [H, W, C] or [H, W] each.
        images: images seen, the step.
    """
    for logger in loggers:
        if isinstance(logger, WeightsAndBiases):
            logger.log_table(name, labels, pictures, images)


def log_scores_of_run(folder: Path, recipe: Mapping[str, Any], scores: Mapping[str, float]) -> None:
    """Store the scores of an evaluation in the summary of a run that W&B knows; a failure is logged.

    Args:
        folder: the run's folder.
        recipe: the run's configuration, of which `logger.wandb` is used.
        scores: values by name.
    """
    config = (recipe.get("logger") or {}).get("wandb")
    if not config or not (folder / "wandb-id").is_file() or not scores:
        return
    logger = WeightsAndBiases(str(folder), config.get("project"), entity=config.get("entity"))
    logger.is_new = False
    try:
        logger.log_summary({f"score/{name}": value for name, value in scores.items()})
        logger.finalize("success")
    except Exception as error:
        log.warning("the scores could not be stored in W&B: %s", first_line(error))

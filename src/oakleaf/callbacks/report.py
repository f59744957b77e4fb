"""Writing a run's report during the training."""

import logging
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from oakleaf.callbacks.alarms import ADVICE
from oakleaf.callbacks.interruption import Interruption
from oakleaf.config.types import PositiveInt
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.games import Batch
from oakleaf.gan import GAN
from oakleaf.image_grid import are_points
from oakleaf.metrics.memorization import neighbours_figure
from oakleaf.metrics.neighbours import Nearest, merge_nearest, nearest, shuffled
from oakleaf.report.provenance import new_session, peak_memory, read_sessions, write_sessions
from oakleaf.report.run import NEIGHBOURS, REPORT, RUNNING, RunReport
from oakleaf.runtime.loggers import log_file
from oakleaf.runtime.run_dir import IgnoreFullDisk, atomic_write
from oakleaf.sampling.latents import seeded_inputs

log = logging.getLogger(__name__)

MAX_SHARE = 0.01  # of the training's time that writing the report may take
SHOWN, NEIGHBOURS_SHOWN = 12, 5  # samples, and training images beside each
BLOCK = 1024  # training images that are compared with the samples at once
MIN_SEARCH = 5.0  # seconds that the search for the nearest ones may take; 1 % of the run's, if that is more


class Report(Callback):
    """Write `report.html`, one file that shows the run, while it is going and at its end; and `curves.png` at its end.

    The page has the command, the configuration, commit, versions and machine; time, speed and peak memory; curves of
    all scalars over images and over seconds; the samples of the fixed latents; metrics; alarms with advice; the nearest
    training images; and commands to go on. It needs no network and no server. While the run is going, it reloads
    itself.

    It is written every `every` seconds, but less often if writing would take more than 1 % of the time. If the disk is
    full, it is left out; an error in it is logged, and never ends the training.

    Args:
        folder: the run's folder.
        every: seconds between two writes.
        neighbours: whether the training images that are nearest to samples are searched at the end of the run.
    """

    def __init__(self, folder: str, every: PositiveInt = 30, neighbours: bool = True) -> None:
        self.folder, self.every, self.neighbours = Path(folder), every, neighbours
        self.report = RunReport(self.folder, ADVICE)
        self.ignore_full_disk = IgnoreFullDisk()
        self.started = self.next_write = 0.0  # times of time.perf_counter
        self.cost = 0.0  # seconds that writing has taken
        self.start_images = 0
        self.failed = False

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Write the first page."""
        self.started, self.start_images = time.perf_counter(), pl_module.images_seen
        self.write(trainer, pl_module, RUNNING)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:  # type: ignore[override]
        """Write the page if it is time."""
        if time.perf_counter() >= self.next_write:
            self.write(trainer, pl_module, RUNNING)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write the curves, the nearest training images, and the complete page."""
        interruptions = [c.received for c in trainer.callbacks if isinstance(c, Interruption)]  # type: ignore[attr-defined]
        self.write(trainer, pl_module, "stopped by a signal" if any(interruptions) else "finished")
        if trainer.is_global_zero:
            log_file(trainer.loggers, "report", self.folder / REPORT)

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Write in the page why the run has ended."""
        self.write(trainer, pl_module, f"failed: {type(exception).__name__}: {exception}")

    def write(self, trainer: Trainer, module: Any, status: str) -> None:
        """Write the page, in the first process."""
        if not trainer.is_global_zero or (status == RUNNING and self.failed):
            return
        begin = time.perf_counter()
        try:
            with self.ignore_full_disk(self.folder / REPORT):
                self.folder.mkdir(parents=True, exist_ok=True)
                self._record(trainer, module, status)
                if status != RUNNING and module.iteration:
                    self.report.write_curves()
                    self._write_neighbours(trainer, module)
                self.report.write(self.every if status == RUNNING else None)
        except Exception:  # a mistake in the report must not cost the training
            self.failed = True
            log.exception("%s could not be written; training continues without it", REPORT)
        now = time.perf_counter()
        self.cost += now - begin
        self.next_write = now + max(self.every, (now - begin) / MAX_SHARE)

    def _record(self, trainer: Trainer, module: Any, status: str) -> None:
        """Write into `run.json` how far this session has come."""
        sessions = read_sessions(self.folder)
        if not sessions or (sessions[-1].get("status", RUNNING) != RUNNING and status == RUNNING):
            sessions.append(new_session(""))  # the training was started by other code than Oakleaf's commands
        sessions[-1] |= {
            "status": status,
            "images": module.images_seen,
            "start_images": self.start_images,
            "total_images": module.total_images,
            "seconds": round(time.perf_counter() - self.started, 1),
            "report_seconds": round(self.cost, 2),
            "peak_memory": peak_memory(),
            "device": _device(trainer),
            "updated": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        }
        write_sessions(self.folder, sessions)

    @torch.no_grad()
    def _write_neighbours(self, trainer: Trainer, module: Any) -> None:
        """Draw a few samples beside the training images nearest to them in pixels."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not self.neighbours or not isinstance(module, GAN) or module.game.translates:
            return
        inputs: Batch = {
            name: values.to(module.device) for name, values in seeded_inputs(module.game, SHOWN, module.seed).items()
        }
        samples = data.stored(module.sample(inputs))
        if are_points(samples) or data.count < NEIGHBOURS_SHOWN:
            return
        seconds = max(MIN_SEARCH, MAX_SHARE * (time.perf_counter() - self.started))
        found, searched = nearest_of_data(samples, data, NEIGHBOURS_SHOWN, seconds)
        rows = torch.stack([torch.cat([sample[None], data.images(row)]) for sample, row in zip(samples, found.row)])
        note = f"nearest in pixels among {searched:,} of {data.count:,}"
        figure = neighbours_figure(rows.flatten(0, 1), NEIGHBOURS_SHOWN, "Samples and training images", note)
        with atomic_write(self.folder / NEIGHBOURS) as part:
            figure.save(part)


def nearest_of_data(samples: Tensor, data: ImageDataModule, k: int, seconds: float) -> tuple[Nearest, int]:
    """Find the training images that are nearest to samples in pixels.

    Args:
        samples: as the data are stored, [B, C, H, W].
        data: the training images, which are read in parts, in a fixed random order.
        k: how many for each sample.
        seconds: time after which the search ends with the images that were read.

    Returns:
        Distances and row numbers in the data, [B, k], and the number of images that were searched.
    """
    order, best, searched = shuffled(data.count), None, 0
    end = time.perf_counter() + seconds
    for images in data.iter_images(BLOCK, order):
        part = nearest(samples, images, min(k, len(images)))
        part = Nearest(part.distance, order[searched + part.row])
        best, searched = part if best is None else merge_nearest(best, part, k), searched + len(images)
        if time.perf_counter() > end:
            break
    assert best is not None
    return best, searched


def _device(trainer: Trainer) -> str:
    """Return the device and the number of processes."""
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return name if trainer.world_size == 1 else f"{trainer.world_size} x {name}"

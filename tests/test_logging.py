"""What a run logs: scalars over images seen, sample grids, an animation, W&B and TensorBoard."""

import contextlib
import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.composing import SMALL
from helpers.disk import full_disk
from helpers.training import Fit
from oakleaf.callbacks import LogScalars
from oakleaf.gan import GAN
from oakleaf.runtime import loggers
from oakleaf.runtime.loggers import MetricsCSV, WeightsAndBiases
from oakleaf.runtime.running_means import RunningMeans

RUN = [*SMALL, "max_images=960", "log_every=10", "callbacks.samples.every=320"]


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_scalars_are_logged_by_name_over_images_seen(fit: Fit, tmp_path: Path) -> None:
    fit(*RUN, "loss=wasserstein_gp")
    rows = rows_of(tmp_path)
    assert [row["images"] for row in rows] == [str(160 * i) for i in range(1, 7)]
    assert set(rows[0]) == {
        "images", "loss/discriminator/adversarial", "loss/discriminator/gradient_penalty", "loss/generator/adversarial",
        "score/real", "score/fake", "accuracy/real", "accuracy/fake",
        "gradient_norm/discriminator", "gradient_norm/generator", "images_per_second", "seconds", "epoch",
    }  # fmt: skip
    assert all(float(value) == float(value) for row in rows for value in row.values())
    assert all(0 <= float(row["accuracy/fake"]) <= 1 for row in rows)


@pytest.mark.slow
def test_sample_grids_of_the_same_latents_and_their_animation(fit: Fit, tmp_path: Path) -> None:
    fit(*RUN)
    names = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert names == ["000000000000.png", "000000000320.png", "000000000640.png", "000000000960.png", "animation.gif"]
    animation = Image.open(tmp_path / "samples" / "animation.gif")
    assert animation.n_frames == 4
    first, last = (Image.open(tmp_path / "samples" / name) for name in (names[0], names[3]))
    assert first.size == last.size == animation.size
    assert first.tobytes() != last.tobytes()
    for frame, grid in ((0, first), (3, last)):
        animation.seek(frame)
        difference = np.asarray(animation.convert("RGB"), float) - np.asarray(grid.convert("RGB"), float)
        assert abs(difference).mean() < 3  # of 255 grey levels


@pytest.mark.slow
def test_a_resumed_run_continues_metrics_csv(fit: Fit, tmp_path: Path) -> None:
    fit(*RUN, "callbacks.checkpoint.keep_every=320")
    uninterrupted = rows_of(tmp_path)
    fit(*RUN, checkpoint=tmp_path / "checkpoints" / "000000000320.ckpt")
    again = rows_of(tmp_path)
    timed = ("images_per_second", "seconds")
    assert [{k: v for k, v in row.items() if k not in timed} for row in again] == [
        {k: v for k, v in row.items() if k not in timed} for row in uninterrupted
    ]


@pytest.mark.slow
def test_a_damaged_row_of_metrics_csv_is_removed(fit: Fit, tmp_path: Path) -> None:
    fit(*RUN, "callbacks.checkpoint.keep_every=320")
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write(",1.5\n11x")
    fit(*RUN, checkpoint=tmp_path / "checkpoints" / "000000000320.ckpt")
    assert [row["images"] for row in rows_of(tmp_path)] == [str(160 * i) for i in range(1, 7)]


@pytest.mark.slow
def test_later_sample_grids_are_removed_when_the_run_resumes_earlier(fit: Fit, tmp_path: Path) -> None:
    fit(*RUN, "callbacks.checkpoint.keep_every=320")
    old = (tmp_path / "samples" / "000000000640.png").read_bytes()
    other = ["optim.generator.lr=0.01", "max_images=800"]
    fit(*[o for o in RUN if "max_images" not in o], *other, checkpoint=tmp_path / "checkpoints" / "000000000320.ckpt")
    names = sorted(int(path.stem) for path in (tmp_path / "samples").glob("0*.png"))
    assert names == [0, 320, 640, 800]
    assert (tmp_path / "samples" / "000000000640.png").read_bytes() != old


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.slow
def test_every_player_is_logged_however_rarely_it_steps(fit: Fit, tmp_path: Path, every: int) -> None:
    options = [f"optim.discriminator.every={every}", "log_every=100"]  # a run shorter than an interval
    fit(*[o for o in RUN if "watch" not in o], *options)
    (row,) = rows_of(tmp_path)
    assert {"D(x)", "gradient_norm/discriminator", "gradient_norm/generator"} <= row.keys()


def test_new_columns_are_added_to_metrics_csv(tmp_path: Path) -> None:
    table = MetricsCSV(str(tmp_path))
    table.log_metrics({"a": 1.0}, step=10)
    table.log_metrics({"a": 2.0, "b": 3.0}, step=20)
    table.log_metrics({"a": 4.0}, step=30)
    assert [(r["images"], r["a"], r["b"]) for r in rows_of(tmp_path)] == [
        ("10", "1.0", ""), ("20", "2.0", "3.0"), ("30", "4.0", ""),
    ]  # fmt: skip


def test_means_are_exact_also_for_lazily_computed_terms() -> None:
    means = RunningMeans()
    for i in range(4):
        losses = {"adversarial": torch.tensor(float(i))}
        means.add("loss/discriminator", losses | ({"lazy": torch.tensor(8.0)} if i % 4 == 0 else {}))
    assert means.pop() == {"loss/discriminator/adversarial": 1.5, "loss/discriminator/lazy": 8.0}
    assert means.pop() == {}


@pytest.mark.slow
def test_wandb_runs_offline_without_a_login(fit: Fit, tmp_path: Path) -> None:
    fit(*RUN, "logger=wandb")
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(list(tmp_path.glob("wandb/offline-run-*/files/media/images/*.png"))) == 4
    assert rows_of(tmp_path)  # written as well


@pytest.mark.slow
def test_a_failing_wandb_ends_no_training(fit: Fit, tmp_path: Path, monkeypatch) -> None:
    import wandb

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("W&B is having a bad day")

    monkeypatch.setattr(wandb, "init", broken)
    module, _ = fit(*RUN, "logger=wandb")
    assert module.images_seen == 960


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "reachable", "mode"), [("", True, "offline"), ("k" * 40, False, "offline"), ("k" * 40, True, "online")]
)
@pytest.mark.slow
def test_wandb_is_online_only_if_logged_in_and_the_server_is_reachable(
    tmp_path, monkeypatch, key, reachable, mode
) -> None:
    import wandb

    modes: list[str] = []

    def init(**arguments):
        modes.append(arguments["mode"])
        raise RuntimeError("enough")

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(loggers, "_is_reachable", lambda: reachable)
    logger = WeightsAndBiases(str(tmp_path / "run"))
    logger.log_metrics({"a": 1.0}, step=1)
    assert modes[0] == mode
    assert modes[-1] == "disabled"


@pytest.mark.slow
def test_tensorboard_gets_scalars_and_images(fit: Fit, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(*RUN, "logger=tensorboard")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [e.step for e in events.Scalars("loss/discriminator/adversarial")] == [160 * i for i in range(1, 7)]
    assert [e.step for e in events.Images("samples")] == [0, 320, 640, 960]
    assert (tmp_path / "metrics.csv").exists()


@pytest.mark.slow
def test_tensorboard_on_a_full_disk_ends_no_run(
    fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    original, room = LogScalars.on_train_batch_end, contextlib.ExitStack()

    def fill(self: Any, trainer: Any, module: GAN, *rest: Any) -> None:
        if module.iteration == 12:
            room.enter_context(full_disk(100))
        if module.iteration == 50:
            room.close()
        original(self, trainer, module, *rest)
        [one.save() for one in trainer.loggers]  # to disk, which by itself happens every two minutes

    monkeypatch.setattr(LogScalars, "on_train_batch_end", fill)
    module, _ = fit(*RUN, "logger=tensorboard", "trainer.enable_progress_bar=false")
    assert module.images_seen == 960
    assert caplog.text.count("tensorboard could not be written (File too large); training continues without it") == 1

"""Failures that must not lose a run: signals, kills, full disks, NaN, memory."""

import contextlib
import csv
import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.commands import quick
from helpers.composing import FP32, ROOT, SMALL, composed
from helpers.disk import full_disk
from helpers.marks import long_except
from helpers.training import built
from oakleaf.errors import UserError
from oakleaf.runtime.checkpoint_io import AtomicCheckpointIO, newest_checkpoint, read_checkpoint
from oakleaf.runtime.nonfinite import NonFiniteGuard, TrainingDiverged

RUN = ["train", "data=digits", *SMALL, *FP32, "logger=csv", "trainer.enable_progress_bar=false"]


def same_weights(a: Path, b: Path) -> bool:
    mine, theirs = read_checkpoint(a)["state_dict"], read_checkpoint(b)["state_dict"]
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


@pytest.mark.parametrize(
    ("sent", "code"),
    long_except([(signal.SIGTERM, 143)], [(signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGINT, 130)]),
)
def test_a_signal_ends_the_run_with_a_checkpoint_and_its_exit_code(
    sent: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from oakleaf.callbacks import LogScalars

    original = LogScalars.on_train_batch_end

    def send_signal(self: Any, trainer: Any, module: Any, *rest: Any) -> None:
        original(self, trainer, module, *rest)
        if module.iteration == 3:
            os.kill(os.getpid(), sent)

    before = signal.getsignal(sent)
    folder = ["max_images=160", f"hydra.run.dir={tmp_path}/whole"], ["max_images=160", f"hydra.run.dir={tmp_path}/cut"]
    assert quick(*RUN, *folder[0], folder=tmp_path).returncode == 0
    monkeypatch.setattr(LogScalars, "on_train_batch_end", send_signal)
    assert quick(*RUN, *folder[1], folder=tmp_path).returncode == code
    monkeypatch.undo()
    assert signal.getsignal(sent) == before
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    assert 3 <= read_checkpoint(last)["iteration"] < 10
    assert quick(*RUN, *folder[1], "resume=auto", folder=tmp_path).returncode == 0
    assert same_weights(last, tmp_path / "whole" / "checkpoints" / "last.ckpt")


@pytest.mark.slow
def test_killed_runs_end_with_the_weights_of_the_uninterrupted_run(tmp_path: Path) -> None:
    """The short form of `tests/torture/kills.py`, which kills 50 times."""
    script = [sys.executable, ROOT / "tests" / "torture" / "kills.py", "5", "1"]
    found = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
    assert "5  kills" in found.stdout and "inside a saving" in found.stdout and "ended alike" in found.stdout


@pytest.mark.slow
def test_resume_auto_skips_and_names_a_damaged_checkpoint(tmp_path: Path) -> None:
    run = [*RUN, f"hydra.run.dir={tmp_path}/run", "callbacks.checkpoint.keep_every=64"]
    assert quick(*run, "max_images=160", folder=tmp_path).returncode == 0
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    undamaged = last.read_bytes()
    damaged = bytearray(undamaged)
    with zipfile.ZipFile(last) as archive:
        weights = archive.read(max(archive.infolist(), key=lambda entry: entry.file_size))
    damaged[undamaged.index(weights) + len(weights) // 2] ^= 1  # a single bit
    last.write_bytes(damaged)
    os.utime(last)
    result = quick(*run, "max_images=160", "resume=auto", folder=tmp_path)
    assert result.returncode == 0 and "last.ckpt is not a checkpoint, or it is damaged" in result.stdout + result.stderr
    assert "000000000128.ckpt" in result.stdout + result.stderr
    again = read_checkpoint(last)
    assert again["images_seen"] == 160
    last.write_bytes(undamaged)
    assert all(
        torch.equal(read_checkpoint(last)["state_dict"][key], again["state_dict"][key]) for key in again["state_dict"]
    )


@pytest.mark.slow
def test_resume_auto_overwrites_nothing_if_all_checkpoints_are_damaged(tmp_path: Path) -> None:
    run = [*RUN, f"hydra.run.dir={tmp_path}/run", "max_images=32"]
    assert quick(*run, "resume=auto", folder=tmp_path).returncode == 0  # none is there: it begins
    for path in (tmp_path / "run" / "checkpoints").glob("*.ckpt"):
        path.write_bytes(path.read_bytes()[:-2000])
    files = lambda: {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file() and p.suffix != ".log"}  # noqa: E731
    before = files()
    result = quick(*run, "resume=auto", folder=tmp_path)
    assert result.returncode == 1 and "is whole; name another folder" in result.stderr.splitlines()[-1]
    assert files() == before


@pytest.mark.slow
def test_a_full_disk_keeps_the_old_checkpoint_and_fails_at_the_end(tmp_path: Path) -> None:
    run = [*RUN, f"hydra.run.dir={tmp_path}/run"]
    assert quick(*run, "max_images=32", folder=tmp_path).returncode == 0
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    with full_disk(len(before) // 2):
        result = quick(*run, "max_images=64", "resume=auto", folder=tmp_path)
    assert result.returncode == 1 and "could not be saved (File too large)" in result.stderr
    assert last.read_bytes() == before and not list(last.parent.glob(".*.part"))


ROOM = 3000  # bytes; config.yaml has more


@pytest.mark.slow
def test_a_full_disk_at_the_start_keeps_the_old_config(tmp_path: Path) -> None:
    run = [*RUN, f"hydra.run.dir={tmp_path}/run"]
    with full_disk(ROOM):
        result = quick(*run, "max_images=32", folder=tmp_path)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "config.yaml could not be written (File too large): make room there" in result.stderr
    assert not (tmp_path / "run").exists()
    assert quick(*run, "max_images=32", folder=tmp_path).returncode == 0
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    assert len(before) > ROOM
    with full_disk(ROOM):
        assert quick(*run, "max_images=64", "resume=auto", folder=tmp_path).returncode == 1
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before
    assert not list((tmp_path / "run").glob(".*"))


@pytest.mark.slow
def test_a_disk_too_full_for_grids_rows_and_scores_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first grid and row are written, and those of the last iterations; in between the disk is full."""
    from oakleaf.callbacks import LogScalars

    original, room = LogScalars.on_train_batch_end, contextlib.ExitStack()

    def fill(self: Any, trainer: Any, module: Any, *rest: Any) -> None:
        if module.iteration == 2:
            room.enter_context(full_disk(40))  # less than a row
        if module.iteration == 8:
            room.close()
        original(self, trainer, module, *rest)

    monkeypatch.setattr(LogScalars, "on_train_batch_end", fill)
    often = ["max_images=160", "log_every=1", "callbacks.samples.every=16", "callbacks.checkpoint.every=160"]
    often += [
        "callbacks=scored",
        "metric@callbacks.evaluate.metric=kid",
        "extractor@callbacks.evaluate.extractor=pixels",
    ]
    often += ["callbacks.evaluate.best=null", "callbacks.evaluate.every=48", "callbacks.evaluate.fake=32"]
    with room:
        result = quick(*RUN, *often, f"hydra.run.dir={tmp_path}/run", folder=tmp_path)
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    assert "Traceback" not in output
    for name in (r"metrics\.csv", "scores", r"000000000032\.png"):
        assert (
            len(re.findall(rf"{name} could not be written \(File too large\); training continues without it", output))
            == 1
        )
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["images"]) for row in rows] == [16, 128, 144, 144, 160]  # at 144 there is a score, in its own row
    assert not any(None in row or None in row.values() for row in rows)
    shown = sorted(path.name for path in (tmp_path / "run" / "samples").iterdir())
    assert shown == [*(f"{images:012d}.png" for images in (0, 16, 128, 144, 160)), "animation.gif"]
    assert [file.name for file in (tmp_path / "run" / "scores").iterdir()] == ["metrics.json"]


def insert_nan(module: Any, iterations: range) -> None:
    """Let the batches of these iterations contain a NaN."""
    real = module.training_step

    def step(batch: Any, batch_idx: int) -> None:
        if module.iteration + 1 in iterations:
            batch = {**batch, "image": batch["image"].clone()}
            batch["image"][0] = float("nan")
        real(batch, batch_idx)

    module.training_step = step


def test_steps_with_nan_are_skipped_and_statistics_repaired(tmp_path: Path) -> None:
    module, data, trainer, _ = built(*FP32, *SMALL, "max_images=160", folder=tmp_path)
    insert_nan(module, range(4, 6))
    trainer.fit(module, datamodule=data)
    assert {name: int(count) for name, count in module.guard.skipped.items()} == {"discriminator": 2}
    assert not module.guard.consecutive
    assert module.last_scalars["nonfinite_steps/discriminator"] == 2
    assert all(bool(tensor.isfinite().all()) for tensor in module.state_dict().values())


def test_too_many_skipped_steps_end_the_run_with_the_cause_named(tmp_path: Path) -> None:
    module, data, trainer, _ = built(*FP32, *SMALL, "max_images=320", "nonfinite.max_consecutive=3", folder=tmp_path)
    insert_nan(module, range(5, 100))
    with pytest.raises(
        TrainingDiverged,
        match=r"loss/discriminator/adversarial is NaN .* 3 steps in a row.* iteration 7, .* batch's image is not",
    ):
        trainer.fit(module, datamodule=data)
    assert all(bool(weight.isfinite().all()) for weight in module.parameters())


def test_a_diverged_generator_is_named_as_the_cause(tmp_path: Path) -> None:
    module, data, trainer, _ = built(*FP32, *SMALL, "max_images=320", "nonfinite.max_consecutive=3", folder=tmp_path)
    with torch.no_grad():
        next(module.network("generator").parameters()).fill_(1e38)
    words = (
        r"loss/discriminator/adversarial is NaN .* the generator's samples are not finite; lower optim\.generator\.lr"
    )
    with pytest.raises(TrainingDiverged, match=words):
        trainer.fit(module, datamodule=data)


def test_samples_that_fail_do_not_hide_the_error() -> None:
    def sample() -> torch.Tensor:
        raise torch.linalg.LinAlgError("not positive definite")

    guard = NonFiniteGuard(max_consecutive=1)
    nan = {"adversarial": torch.tensor(float("nan"))}
    assert not guard.check("discriminator", None, nan, torch.tensor(1.0))
    with pytest.raises(
        TrainingDiverged, match=r"loss/discriminator/adversarial is NaN .*; lower optim\.discriminator\.lr"
    ):
        guard.raise_if_diverged(1, {}, sample)


@pytest.mark.slow
def test_a_rollback_continues_with_half_the_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from oakleaf.gan import GAN

    rates: list[float] = []
    real = GAN.training_step

    def step(self: Any, batch: Any, index: int) -> None:
        rates.append(self.players["discriminator"].lr)
        if self.iteration >= 6 and rates[-1] > 1e-4:
            batch = {**batch, "image": batch["image"] * float("nan")}
        real(self, batch, index)

    monkeypatch.setattr(GAN, "training_step", step)
    options = ["max_images=160", "callbacks.checkpoint.every=64", "nonfinite.max_consecutive=2"]
    result = quick(*RUN, *options, f"hydra.run.dir={tmp_path}/a", folder=tmp_path)
    assert result.returncode == 1 and "NaN" in result.stderr
    rates.clear()
    result = quick(*RUN, *options, "nonfinite.max_rollbacks=1", f"hydra.run.dir={tmp_path}/b", folder=tmp_path)
    assert result.returncode == 0 and "with half the learning rates" in result.stdout + result.stderr
    assert set(rates) == {2e-4, 1e-4} and rates[-1] == 1e-4
    assert read_checkpoint(tmp_path / "b" / "checkpoints" / "last.ckpt")["images_seen"] == 160


def test_each_rate_is_halved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder's rate is an interpolation of the generator's."""
    from oakleaf.cli.resume import rollback

    config = composed("model=bigan", "data=digits", "nonfinite.max_rollbacks=1", folder=tmp_path)
    before = {name: player.lr for name, player in config.optim.items() if player and "lr" in player}
    monkeypatch.setattr("oakleaf.runtime.checkpoint_io.newest_checkpoint", lambda folder: (tmp_path / "last.ckpt", {}))
    _, _, config = rollback(config, tmp_path, 0, UserError("NaN"))
    assert {name: config.optim[name].lr for name in before} == {name: lr / 2 for name, lr in before.items()}
    assert "encoder" in before


def test_out_of_memory_names_the_batch_size_that_fits(tmp_path: Path) -> None:
    module, data, trainer, _ = built(*FP32, *SMALL, "max_images=160", folder=tmp_path)
    real = module.game.discriminator.forward

    def greedy(x: torch.Tensor, *rest: Any) -> Any:
        if len(x) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(x, *rest)

    module.game.discriminator.forward = greedy
    with pytest.raises(UserError, match=r"a batch of 16 does not fit .* data\.batch_size=4"):
        trainer.fit(module, datamodule=data)


def test_a_checkpoint_is_complete_or_missing(tmp_path: Path) -> None:
    io = AtomicCheckpointIO()
    io.save_checkpoint({"a": torch.ones(2)}, tmp_path / "x.ckpt")
    assert not io.failed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.ckpt"]
    assert newest_checkpoint(tmp_path) is None  # whole, but none of ours
    with pytest.raises(UserError, match="is not a checkpoint of Oakleaf: it has no configuration"):
        read_checkpoint(tmp_path / "x.ckpt")


@pytest.mark.slow
def test_the_state_of_an_objective_stays_finite_after_nan(tmp_path: Path) -> None:
    module, data, trainer, _ = built(*FP32, "model=began", "data.batch_size=8", "max_images=64", folder=tmp_path)
    insert_nan(module, range(3, 5))
    trainer.fit(module, datamodule=data)
    assert all(bool(tensor.isfinite().all()) for tensor in module.state_dict().values())
    assert module.guard.skipped


@pytest.mark.slow
def test_a_checkpoint_without_a_new_option_gets_its_default(tmp_path: Path) -> None:
    run = [*RUN, f"hydra.run.dir={tmp_path}/run"]
    assert quick(*run, "max_images=32", folder=tmp_path).returncode == 0
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    for key in ("compile", "profile", "nonfinite", "sweep"):
        del content["hyper_parameters"][key]
    del content["hyper_parameters"]["trainer"]["sync_batchnorm"]
    torch.save(content, last)
    result = quick("train", f"resume={tmp_path}/run", "max_images=64", "callbacks=default", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert read_checkpoint(last)["images_seen"] == 64


def test_skipped_steps_are_found_after_later_steps_were_finite() -> None:
    """On a GPU the counts are read at logging steps only, when the last steps may have been finite again."""
    guard = NonFiniteGuard()
    guard.skipped, guard.consecutive = {"generator": torch.tensor(2)}, {"generator": torch.tensor(0)}
    assert guard.raise_if_diverged(50, {})
    assert not guard.raise_if_diverged(100, {})
    guard.skipped["generator"] += 1
    assert guard.raise_if_diverged(150, {})

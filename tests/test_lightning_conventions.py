"""What a user of Lightning expects: any module, logging, monitored values, hooks, common callbacks and flags.

Each case trains small networks on the digits for some iterations.
"""

import csv
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, LambdaCallback, ModelCheckpoint

import oakleaf
from helpers.commands import Result, quick
from helpers.composing import composed
from helpers.modules import Autoencoder, Batches, Hooks, HooksOfAGAN, LoggingGAN, NoGradients
from helpers.training import Fit, built
from oakleaf.builder.build import build
from oakleaf.builder.load import load
from oakleaf.builder.trainer import _check_arguments
from oakleaf.errors import UserError
from oakleaf.gan import GAN
from oakleaf.runtime.checkpoint_io import read_checkpoint
from oakleaf.runtime.hooks import is_overridden
from oakleaf.runtime.monitors import Monitors

TINY = ["data=digits", "model.game.generator.width=4", "model.game.discriminator.width=4", "data.batch_size=16"]
BARE = ["callbacks.samples=null", "callbacks.training_monitor=null", "trainer.enable_progress_bar=false"]
RUN = [*TINY, *BARE, "log_every=5", "max_images=480"]  # 30 iterations, 6 rows
LIGHTNING = "lightning.pytorch.callbacks"
LOSS = "loss/discriminator/adversarial"


def with_callback(name: str, **arguments: Any) -> str:
    """Return the override that adds a callback: one of Lightning's, or of `helpers.modules` by its whole name."""
    target = name if "." in name else f"{LIGHTNING}.{name}"
    pairs = ", ".join(f"{key}: {json.dumps(value)}" for key, value in {"_target_": target, **arguments}.items())
    return f"+callbacks.added={{{pairs}}}"


def mine(name: str, **arguments: Any) -> str:
    return with_callback(f"helpers.modules.{name}", **arguments)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def column(folder: Path, name: str) -> list[tuple[int, float]]:
    """Return the images and values of one scalar."""
    return [(int(row["images"]), float(row[name])) for row in rows_of(folder) if row.get(name)]


def trained(*overrides: str, folder: Path) -> Result:
    """Run `train.py` on a CPU."""
    return quick("train", *overrides, "logger=csv", "trainer=cpu", "folder=run", folder=folder)


@pytest.fixture(autouse=True)
def _trust(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OAKLEAF_TRUST", "helpers.modules")


def fit_with(callback: Callback, *overrides: str, folder: Path) -> tuple[Any, Any]:
    """Train with a callback that is an instance already."""
    module, data, trainer, _ = built("trainer=cpu", *overrides, folder=folder)
    trainer.callbacks.append(callback)  # type: ignore[attr-defined]
    trainer.fit(module, datamodule=data)
    return module, trainer


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder)["state_dict"]  # type: ignore[no-any-return]


# ---- 1. any LightningModule ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_subclass_of_gan_is_built_with_its_own_argument_and_stored(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _ = fit(*RUN, "module._target_=helpers.modules.LoggingGAN", "+module.factor=2.0", "optim.ema=null")
    assert type(module) is LoggingGAN and module.images_seen == 480 and module.seed == 0 and not module.ema
    assert column(tmp_path, "mine/step") == [(80 * i, 10.0 * i) for i in range(1, 7)]
    stored = read_checkpoint(tmp_path)["hyper_parameters"]
    assert stored["module"] == {"_target_": "helpers.modules.LoggingGAN", "factor": 2.0}
    assert type(load(tmp_path)) is LoggingGAN
    monkeypatch.delenv("OAKLEAF_TRUST")
    with pytest.raises(UserError, match=r"helpers\.modules\.LoggingGAN.*OAKLEAF_TRUST=PACKAGE"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["module._target_=torch.nn.Identity"], "module._target_=torch.nn.Identity: should be a LightningModule"),
        (["module._target_=helpers.modules.Missing"], "there is no such class"),
        (["module._target_=helpers.modules.Autoencoder"], "module: missing 1 required"),
        (
            ["module._target_=helpers.modules.Autoencoder", "+module.breadth=3"],
            "module.breadth: there is no such option",
        ),
        (["+module.colour=red"], "module.colour: there is no such option"),
        (["module._target_=os.system"], "may build networks, losses, data"),
    ],
)
def test_a_module_that_cannot_be_built_is_told_in_one_sentence(
    tmp_path: Path, overrides: list[str], words: str
) -> None:
    with pytest.raises(UserError) as error:
        build(composed(*TINY, *overrides, folder=tmp_path))
    assert words in str(error.value)


def test_checkpoints_without_the_node_are_of_a_gan(fit: Fit, tmp_path: Path) -> None:
    fit(*RUN, "max_images=32")
    content = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert content["hyper_parameters"].pop("module") == {"_target_": "oakleaf.gan.GAN"}
    torch.save(content, tmp_path / "old.ckpt")
    assert type(load(tmp_path / "old.ckpt")) is GAN


FOREIGN = [*TINY[:1], *TINY[3:], *BARE[2:], "module._target_=helpers.modules.Autoencoder", "+module.width=4"]


def test_a_foreign_module_trains_with_our_data_loggers_and_checkpoints(
    fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "oakleaf")
    module, trainer = fit(*FOREIGN, "log_every=5", "max_images=480", "seed=3")
    assert (
        type(module) is Autoencoder
        and module.seed_received == 3
        and (module.iteration, module.images_seen) == (30, 480)
    )
    assert [images for images, _ in column(tmp_path, "loss/reconstruction")] == [80, 160, 240, 320, 400, 480]
    assert "callbacks.log_scalars, callbacks.training_monitor, callbacks.samples, callbacks.compiling" in caplog.text
    loaded = oakleaf.load(tmp_path)
    assert type(loaded.module) is Autoencoder and loaded.module.images_seen == 480
    with pytest.raises(UserError, match=r"helpers\.modules\.Autoencoder, and only an oakleaf\.gan\.GAN can be"):
        loaded.sample(4)
    assert float(trainer.callback_metrics["loss/reconstruction"]) < 1


@pytest.mark.slow
def test_a_foreign_run_that_was_cut_equals_the_uninterrupted_one(fit: Fit, tmp_path: Path) -> None:
    run = [*FOREIGN, "log_every=5"]
    fit(*run, "max_images=2400", folder=tmp_path / "whole")
    fit(*run, "max_images=2000", folder=tmp_path / "cut")  # in the second epoch
    fit(*run, "max_images=2400", folder=tmp_path / "cut", checkpoint=tmp_path / "cut/checkpoints/last.ckpt")
    for name, value in state_of(tmp_path / "whole").items():
        assert torch.equal(value, state_of(tmp_path / "cut")[name]), name
    assert column(tmp_path / "cut", "loss/reconstruction") == column(tmp_path / "whole", "loss/reconstruction")


@pytest.mark.slow
def test_commands_say_that_a_foreign_module_is_no_gan(tmp_path: Path) -> None:
    result = trained(*FOREIGN, "max_images=64", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    for name in ("sample", "evaluate", "export"):
        told = quick(name, "checkpoint=run", folder=tmp_path)
        assert told.returncode == 1 and "helpers.modules.Autoencoder, and only an oakleaf.gan.GAN" in told.stderr, told
    resumed = quick("train", "resume=run", "max_images=128", folder=tmp_path)
    assert resumed.returncode == 0 and read_checkpoint(tmp_path / "run")["images_seen"] == 128, resumed.stderr


def test_a_foreign_module_may_name_nothing_or_the_game_and_use_lightnings_optimization(
    fit: Fit, tmp_path: Path
) -> None:
    options = ["module._target_=helpers.modules.Nothing", "max_images=64", "+trainer.gradient_clip_val=0.5"]
    module, trainer = fit(*FOREIGN[:3], *options, folder=tmp_path / "nothing")
    assert module.images_seen == 64 and trainer.gradient_clip_val == 0.5 and not hasattr(module, "game")
    module, _ = fit(*RUN, "module._target_=helpers.modules.OwnLoop", "max_images=64", folder=tmp_path / "loop")
    assert set(module.players_of_run) == {"discriminator", "generator"} and module.images_seen == 64


# ---- 2. the axis of images -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_values_logged_in_lightnings_way_are_recorded_over_images_seen(fit: Fit, tmp_path: Path) -> None:
    _, trainer = fit(*RUN, mine("Logs"), "module._target_=helpers.modules.LoggingGAN", "data.epochs=1")
    images = [int(row["images"]) for row in rows_of(tmp_path)]
    assert images == sorted(images) and set(images) == {80 * i for i in range(1, 7)}
    for name in ("callback/step", "callback/dict", "mine/step", "mine/both_step"):  # the values of the row's iteration
        assert column(tmp_path, name) == [(80 * i, 5.0 * i) for i in range(1, 7)], name
    for name in ("callback/mean", "callback/tensor"):  # means over the five iterations since the row before
        # a callback after `log_scalars` adds to the next row, and the last value is in a row of the run's end
        means = [2.5, 7.0, 12.0, 17.0, 22.0, 27.0]
        assert column(tmp_path, name) == [*zip(range(80, 481, 80), means), (480, 30.0)], name
    for name, mean in {"mine/epoch": 15.5, "mine/both_epoch": 15.5, "callback/epoch": 30.0}.items():
        assert column(tmp_path, name) == [(480, mean)], name
    assert trainer.progress_bar_metrics["mine/both_step"] == 30.0


@pytest.mark.slow
def test_tensorboard_and_lightnings_own_csv_get_images_as_the_step(fit: Fit, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    own = f"+logger.own={{_target_: lightning.pytorch.loggers.CSVLogger, save_dir: {tmp_path}, name: own}}"
    fit(*RUN, "logger=tensorboard", own, mine("Logs"))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("callback/step")] == [80 * i for i in range(1, 7)]
    with (tmp_path / "own/version_0/metrics.csv").open(newline="") as file:
        assert {row["step"] for row in csv.DictReader(file)} == {str(80 * i) for i in range(1, 7)}


@pytest.mark.slow
def test_learning_rates_and_device_statistics_are_logged_over_images(fit: Fit, tmp_path: Path) -> None:
    pytest.importorskip("psutil")
    schedule = "+optim.generator.schedules.lr={_target_: oakleaf.optim.schedules.Linear, to: 0.0, over: 480}"
    monitor = "+callbacks.lr={_target_: lightning.pytorch.callbacks.LearningRateMonitor}"
    run = [*RUN, monitor, with_callback("DeviceStatsMonitor"), "callbacks.checkpoint.keep_every=160", schedule]
    fit(*run)
    uninterrupted = rows_of(tmp_path)
    rates = column(tmp_path, "lr-Adam-1/generator")
    assert [images for images, _ in rates] == [0, 64, 144, 224, 304, 384, 464]  # before the iterations that log
    assert rates[3][1] == pytest.approx(2e-4 * (1 - 208 / 480))  # as the last step took it
    assert len(column(tmp_path, "DeviceStatsMonitor.on_train_batch_end/cpu_percent")) == 6
    fit(*run, checkpoint=tmp_path / "checkpoints/000000000160.ckpt")
    timed = ("images_per_second", "cpu_", "seconds")
    kept = [name for name in uninterrupted[0] if not any(part in name for part in timed)]
    assert [[row[name] for name in kept] for row in rows_of(tmp_path)] == [[r[n] for n in kept] for r in uninterrupted]


def test_nothing_of_lightnings_logging_is_computed_if_nobody_logs(fit: Fit) -> None:
    _, trainer = fit(*RUN, "max_images=80")
    assert not trainer.fit_loop.epoch_loop._results
    assert {LOSS, "D(x)", "gradient_norm/generator"} <= trainer.callback_metrics.keys()


# ---- 3. monitored values ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_early_stopping_on_a_loss_checks_every_row_and_ends_the_run_as_finished(tmp_path: Path) -> None:
    stop = with_callback("EarlyStopping", monitor=LOSS, mode="max", patience=2)  # the loss falls from the beginning
    result = trained(*TINY, *BARE[1:], *RUN[-2:], stop, "callbacks.samples.every=400", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    output = result.stdout + result.stderr
    sentence = f"stopped at 240 images: EarlyStopping, {LOSS} was not better than"
    assert sentence in output and "for 160 images (2 of 2 checks); a larger patience continues the run" in output
    assert read_checkpoint(tmp_path / "run")["images_seen"] == 240
    assert [int(row["images"]) for row in rows_of(tmp_path / "run")] == [80, 160, 240]
    assert (tmp_path / "run/samples/000000000240.png").is_file() and (tmp_path / "run/samples/animation.gif").is_file()
    again = quick("train", "resume=run", folder=tmp_path)  # it is finished
    assert again.returncode == 0 and "stopped at 240 images" in again.stdout + again.stderr, again
    assert [int(row["images"]) for row in rows_of(tmp_path / "run")] == [80, 160, 240]
    more = quick("train", "resume=run", "+callbacks.added.patience=4", folder=tmp_path)
    assert "stopped at 400 images" in more.stdout + more.stderr, more
    assert [int(row["images"]) for row in rows_of(tmp_path / "run")] == [80, 160, 240, 320, 400]


@pytest.mark.parametrize(
    ("arguments", "images", "words"),
    [
        ({"stopping_threshold": 100.0}, 80, "has reached the threshold 100.0"),
        ({"mode": "max", "divergence_threshold": 100.0}, 80, "is beyond the threshold 100.0"),
        ({"patience": 100}, 480, None),
    ],
)
def test_the_reason_of_early_stopping_is_told(
    fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture, arguments: Any, images: int, words: str | None
) -> None:
    caplog.set_level(logging.INFO, "oakleaf.runtime.monitors")
    module, _ = fit(*RUN, with_callback("EarlyStopping", monitor=LOSS, **arguments))
    assert module.images_seen == images
    assert words in caplog.text if words else "stopped" not in caplog.text


@pytest.mark.slow
def test_early_stopping_resumes_exactly(fit: Fit, tmp_path: Path) -> None:
    stop = with_callback("EarlyStopping", monitor="mine/falling", patience=3)
    run = [*RUN, stop, "+callbacks.falling={_target_: helpers.modules.Falling, until: 200}"]
    whole, _ = fit(*run, folder=tmp_path / "whole")
    assert whole.images_seen == 400  # 40 at 160 images is the best value, the same at 240, more at 320 and 400
    fit(*[o for o in run if "max_images" not in o], "max_images=352", folder=tmp_path / "cut")
    cut, trainer = fit(*run, folder=tmp_path / "cut", checkpoint=tmp_path / "cut/checkpoints/last.ckpt")
    (callback,) = (one for one in trainer.callbacks if isinstance(one, EarlyStopping))
    assert callback.wait_count == 3 and cut.images_seen == 400
    (monitors,) = (one for one in trainer.callbacks if isinstance(one, Monitors))
    assert set(monitors.best_images.values()) == {160}
    for name, value in state_of(tmp_path / "whole").items():
        assert torch.equal(value, state_of(tmp_path / "cut")[name]), name


@pytest.mark.slow
def test_a_mean_over_the_epoch_is_monitored_at_its_end_and_the_end_is_saved(fit: Fit, tmp_path: Path) -> None:
    stop = with_callback("EarlyStopping", monitor="mine/epoch", mode="min", patience=1)
    options = ["module._target_=helpers.modules.LoggingGAN", "trainer.limit_train_batches=7", "max_images=null"]
    module, trainer = fit(*RUN, stop, *options, "data.epochs=9", "callbacks.checkpoint.every=100000")
    assert module.iteration == 14 and trainer.current_epoch == 2  # the mean iteration rises
    assert read_checkpoint(tmp_path)["iteration"] == 14
    resumed, _ = fit(*RUN, *options, "data.epochs=3", checkpoint=tmp_path / "checkpoints/last.ckpt")
    assert resumed.iteration == 21


SCORED = ["callbacks=scored", "extractor@callbacks.evaluate.extractor=pixels", "callbacks.evaluate.every=80"]
FID = [*SCORED, "metric@callbacks.evaluate.metric=fid", "callbacks.evaluate.fake=300", "callbacks.evaluate.real=300"]


@pytest.mark.slow
def test_early_stopping_and_model_checkpoint_on_fid(fit: Fit, tmp_path: Path) -> None:
    stop = with_callback("EarlyStopping", monitor="metric/fid-pixels", patience=2, min_delta=1e9)
    keep = f"+callbacks.keep={{_target_: {LIGHTNING}.ModelCheckpoint, monitor: metric/fid-pixels, save_top_k: 2}}"
    module, trainer = fit(*TINY, *FID, *BARE, "log_every=3", "max_images=480", stop, keep)
    assert module.images_seen == 240
    scores = dict(column(tmp_path, "metric/fid-pixels"))
    assert list(scores) == [80, 160, 240]
    assert float(trainer.callback_metrics["metric/fid-pixels"]) == pytest.approx(scores[240])
    kept = {int(path.stem.removeprefix("images=")) for path in (tmp_path / "checkpoints").glob("images=*.ckpt")}
    assert kept == set(sorted(scores, key=lambda images: scores[images])[:2])
    assert read_checkpoint(tmp_path / f"checkpoints/images={min(kept)}.ckpt")["images_seen"] == min(kept)


@pytest.mark.slow
def test_a_run_that_ends_early_is_evaluated_at_its_end(fit: Fit, tmp_path: Path) -> None:
    every = "callbacks.evaluate.every=100000"
    stop = with_callback("EarlyStopping", monitor=LOSS, mode="max", patience=1)
    keep = "+callbacks.keep={_target_: lightning.pytorch.callbacks.ModelCheckpoint, monitor: metric/fid-pixels}"
    fit(*TINY, *FID, *BARE, "log_every=5", "max_images=480", stop, keep, every)
    assert [images for images, _ in column(tmp_path, "metric/fid-pixels")] == [160]
    for name in ("last", "best", "images=160"):
        assert read_checkpoint(tmp_path / f"checkpoints/{name}.ckpt")["images_seen"] == 160


@pytest.mark.slow
def test_model_checkpoint_keeps_the_best_rows_and_resumes(fit: Fit, tmp_path: Path) -> None:
    keep = with_callback("ModelCheckpoint", monitor=LOSS, save_top_k=2)
    _, trainer = fit(*RUN, keep)
    losses = dict(column(tmp_path, LOSS))
    best = sorted(losses, key=lambda images: losses[images])[:2]
    folder = tmp_path / "checkpoints"
    assert {path.name for path in folder.iterdir()} == {"last.ckpt", *(f"images={images}.ckpt" for images in best)}
    (callback,) = (one for one in trainer.callbacks if isinstance(one, ModelCheckpoint))
    assert float(callback.best_model_score) == pytest.approx(losses[best[0]])
    last = read_checkpoint(folder / "last.ckpt")["callbacks"]
    (state,) = (state for key, state in last.items() if key.startswith("ModelCheckpoint"))
    assert state["best_model_path"] == str(folder / f"images={best[0]}.ckpt")  # saved before last.ckpt was written
    module, _ = fit(*RUN, keep, checkpoint=folder / f"images={best[1]}.ckpt")
    assert module.images_seen == 480


@pytest.mark.slow
def test_model_checkpoint_without_a_monitor_saves_at_the_end_of_epochs(fit: Fit, tmp_path: Path) -> None:
    options = ["trainer.limit_train_batches=5", "max_images=null", "data.epochs=3", "optim.ema=null"]
    keep = with_callback("ModelCheckpoint", save_top_k=-1, filename="{epoch}")
    fit(*RUN, keep, *options)
    kept = sorted((tmp_path / "checkpoints").glob("epoch=*.ckpt"))
    assert [path.name for path in kept] == [f"epoch={i}.ckpt" for i in range(3)]
    module, _ = fit(*RUN, keep, *options, checkpoint=kept[0])
    assert module.iteration == 15


@pytest.mark.slow
def test_a_monitored_name_that_is_not_logged_is_told_with_the_nearest(
    fit: Fit, caplog: pytest.LogCaptureFixture
) -> None:
    keep = with_callback("ModelCheckpoint", monitor="loss/discriminator/adverserial")
    fit(*RUN, keep)
    assert "monitor=loss/discriminator/adverserial has not been logged. Did you mean" in caplog.text
    assert f"Did you mean {LOSS}?" in caplog.text
    options = ["trainer.limit_train_batches=50", "max_images=null", "data.epochs=2"]
    with pytest.raises(UserError, match="EarlyStopping: monitor=other has not been logged"):
        fit(*RUN, with_callback("EarlyStopping", monitor="other"), *options)
    fit(*RUN, with_callback("EarlyStopping", monitor="other", strict=False), *options)


@pytest.mark.slow
def test_names_that_are_logged_later_are_known(fit: Fit, caplog: pytest.LogCaptureFixture) -> None:
    options = [*TINY, *FID, "callbacks.samples=null", "callbacks.evaluate.every=100000", "log_every=5", "max_images=96"]
    for name in ("metric/fid-pixels", "health/diversity", "alarm/collapse"):
        fit(*options, with_callback("EarlyStopping", monitor=name))
    assert "has not been logged" not in caplog.text
    fit(*options, with_callback("EarlyStopping", monitor="metric/fid"))
    assert "monitor=metric/fid has not been logged. Did you mean metric/fid-pixels?" in caplog.text


@pytest.mark.long
@pytest.mark.slow
def test_two_processes_stop_and_save_by_the_values_of_the_first(tmp_path: Path) -> None:
    from helpers.commands import command

    stop = with_callback("EarlyStopping", monitor="health/diversity", mode="max", patience=1, min_delta=1e9)
    keep = (
        "+callbacks.keep={_target_: lightning.pytorch.callbacks.ModelCheckpoint, monitor: loss/generator/adversarial}"
    )
    options = [
        *TINY,
        "log_every=5",
        "max_images=2400",
        "callbacks.samples=null",
        "callbacks.training_monitor.every=320",
    ]
    devices = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "logger=csv", "folder=run"]
    result = command("train", *options, *devices, stop, keep, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "stopped at 640 images: EarlyStopping, health/diversity" in result.stdout + result.stderr
    assert len(list((tmp_path / "run/checkpoints").glob("images=*.ckpt"))) == 1


# ---- 4. hooks --------------------------------------------------------------------------------------------------------


def test_hooks_run_around_each_players_step_in_lightnings_order(tmp_path: Path) -> None:
    hooks = Hooks()
    options = ["max_images=64", "optim.generator.every=2", "optim.discriminator.accumulate=2"]
    module, _ = fit_with(hooks, *RUN, *options, folder=tmp_path)
    backward = ["before backward", "after backward"]
    d = ["zero discriminator", *backward, *backward, "step discriminator"]
    g = ["zero generator", *backward, "step generator"]
    assert hooks.calls == [*d, *d, *g, *d, *d, *g]
    assert all(hooks.gradients) and set(module.hooks) == {
        "on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step"
    }  # fmt: skip


@pytest.mark.slow
def test_a_hook_changes_the_gradients_that_the_step_takes(tmp_path: Path) -> None:
    module, _ = fit_with(NoGradients(), *RUN, "max_images=32", "optim.ema=null", folder=tmp_path / "a")
    untrained = build(composed(*RUN, folder=tmp_path / "b")).module
    for (name, after), before in zip(module.game.named_parameters(), untrained.game.parameters()):
        assert torch.equal(after.cpu(), before), name
    assert column(tmp_path / "a", "gradient_norm/generator") == [(32, 0.0)]


def test_hooks_that_nobody_overrides_are_not_called(fit: Fit, tmp_path: Path) -> None:
    module, _ = fit(*RUN, "max_images=32")
    assert module.hooks == {}
    calls: list[str] = []
    lambdas = LambdaCallback(on_before_backward=lambda trainer, module, loss: calls.append("backward"))
    assert is_overridden(lambdas, "on_before_backward", Callback)
    assert not is_overridden(lambdas, "on_after_backward", Callback)
    module, _ = fit_with(lambdas, *RUN, "max_images=32", folder=tmp_path / "lambda")
    assert list(module.hooks) == ["on_before_backward"] and calls == ["backward"] * 4


def test_hooks_of_the_module_are_called_and_it_clips_by_itself(fit: Fit, caplog: pytest.LogCaptureFixture) -> None:
    options = ["module._target_=helpers.modules.HooksOfAGAN", "max_images=32", "optim.ema=null", "optim=sgd"]
    module, _ = fit(*RUN, *options)
    assert isinstance(module, HooksOfAGAN)
    assert module.calls == ["step of discriminator", "step of generator"] * 2
    assert "HooksOfAGAN.optimizer_step is not called" in caplog.text
    norms = [weight.grad.norm() for weight in module.network("generator").parameters() if weight.grad is not None]
    assert float(torch.stack(norms).norm()) == pytest.approx(1e-6, rel=0.01)


def test_batches_are_reported_as_lightning_does(tmp_path: Path) -> None:
    batches = Batches()
    fit_with(batches, *RUN, folder=tmp_path)
    assert batches.counts == {"start": 30, "end": 30}


# ---- 5. summary, profilers, time -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_model_summary_lists_each_players_layers(tmp_path: Path) -> None:
    result = trained(*RUN, "max_images=32", "trainer.enable_model_summary=true", folder=tmp_path)
    lines = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line.strip()}
    module = load(tmp_path / "run")
    for player in ("discriminator", "generator"):
        network = module.network(player)
        count = sum(weight.numel() for weight in network.parameters())
        size = sum(t.numel() * t.element_size() for t in [*network.parameters(), *network.buffers()])
        assert lines[player][1:] == [type(network).__name__, f"{count:,}", f"{size / 1e6:.3f}"]
    assert lines["score"][1] == "Linear"


@pytest.mark.parametrize("profiler", ["simple", pytest.param("advanced", marks=pytest.mark.slow)])
def test_lightnings_profilers_write_into_the_runs_folder_and_say_so(tmp_path: Path, profiler: str) -> None:
    result = trained(*RUN, "max_images=80", f"trainer.profiler={profiler}", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    (report,) = (tmp_path / "run/profile").iterdir()
    assert report.name == "fit-report.txt" and "training_step" in report.read_text()
    assert "profile/  where the time went" in result.stdout


@pytest.mark.slow
def test_the_pytorch_profiler_writes_a_trace(tmp_path: Path) -> None:
    result = trained(*RUN, "max_images=160", "trainer.profiler=pytorch", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    names = {path.name for path in (tmp_path / "run/profile").iterdir()}
    assert "fit-report.txt" in names and any(name.endswith(".pt.trace.json") for name in names), names


def test_two_profilers_are_refused(tmp_path: Path) -> None:
    result = trained(*RUN, "trainer.profiler=simple", "profile=true", folder=tmp_path)
    assert result.returncode == 1 and "profile=true and trainer.profiler cannot run together" in result.stderr


@pytest.mark.slow
def test_max_time_ends_the_run_and_says_where(tmp_path: Path) -> None:
    result = trained(*RUN, "max_images=1e9", "trainer.max_time=00:00:00:02", folder=tmp_path)
    output = result.stdout + result.stderr
    images = read_checkpoint(tmp_path / "run")["images_seen"]
    assert f"stopped at {images:,} images: the time limit of 0:00:02 has passed" in output
    again = quick("train", "resume=run", folder=tmp_path)
    assert f"stopped at {images:,} images: the time limit" in again.stdout + again.stderr, again
    more = quick("train", "resume=run", "trainer.max_time=00:00:00:04", folder=tmp_path)
    assert more.returncode == 0 and read_checkpoint(tmp_path / "run")["images_seen"] > images, more


# ---- 6. common callbacks and flags -----------------------------------------------------------------------------------


def test_timer(fit: Fit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "oakleaf")
    module, _ = fit(*RUN[:-1], "max_images=10000000", with_callback("Timer", duration="00:00:00:01"))
    assert 0 < module.images_seen < 10_000_000
    assert "the time limit of 0:00:01 has passed" in caplog.text


@pytest.mark.parametrize("name", ["TQDMProgressBar", "RichProgressBar"])
def test_lightnings_progress_bars_take_the_place_of_ours(tmp_path: Path, name: str) -> None:
    if name == "RichProgressBar":
        pytest.importorskip("rich")
    options = [o for o in RUN if "progress" not in o]
    result = trained(*options, with_callback(name), folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Epoch 0" in result.stdout + result.stderr and "training:" not in result.stderr


REFUSED = {
    with_callback("StochasticWeightAveraging", swa_lrs=0.1): "optim.ema.half_life=",
    with_callback("EMAWeightAveraging"): "optim.ema.half_life=",
    with_callback("GradientAccumulationScheduler"): "optim.<player>.accumulate=2",
    with_callback("LearningRateFinder"): "-m optim.generator.lr=",
    with_callback("BatchSizeFinder"): "a batch size that fits",
    with_callback("SpikeDetection"): "nonfinite.max_consecutive=",
    with_callback("ModelCheckpoint", every_n_train_steps=10): "callbacks.checkpoint.keep_every=",
    "+trainer.accumulate_grad_batches=2": "optim.<player>.accumulate=2",
    "+trainer.gradient_clip_val=1": "optim.<player>.clip=1",
    "+trainer.max_steps=5": "max_images=",
    "+trainer.val_check_interval=10": "callbacks=scored",
    "+trainer.overfit_batches=2": "data.root=FOLDER",
    "+trainer.log_every_n_steps=2": "log_every=",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_makes_no_sense_for_a_gan_is_refused_in_one_sentence(tmp_path: Path, override: str) -> None:
    with pytest.raises(UserError) as error:
        build(composed(*RUN, override, folder=tmp_path))
    message = str(error.value)
    assert REFUSED[override] in message and "\n" not in message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("max_time", 5, "trainer.max_time=5: DD:HH:MM:SS is expected"),
        ("max_time", "2 hours", "DD:HH:MM:SS is expected"),
        ("limit_train_batches", 0, "nothing would be trained"),
        ("max_epochs", 0, "nothing would be trained"),
        ("precision", "16-mixed", "bf16-mixed needs none"),
    ],
)
def test_arguments_of_the_trainer_are_answered_in_our_words(key: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        _check_arguments({"max_epochs": 1, "max_time": "00:02:00:00", key: value})


def test_limit_train_batches_shortens_the_epochs(fit: Fit) -> None:
    module, trainer = fit(*RUN, "trainer.limit_train_batches=4", "max_images=null", "data.epochs=3")
    assert (module.iteration, trainer.current_epoch) == (12, 3)


@pytest.mark.parametrize("batches", [1, 3])
def test_fast_dev_run_trains_so_many_batches(fit: Fit, tmp_path: Path, batches: int) -> None:
    module, _ = fit(*RUN, f"trainer.fast_dev_run={batches}")
    assert module.iteration == batches
    assert not (tmp_path / "metrics.csv").exists()  # Lightning takes the loggers away


@pytest.mark.slow
def test_lightnings_model_summary_callback_prints(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained(*RUN, "max_images=32", with_callback("ModelSummary", max_depth=2), folder=tmp_path)
    assert "game.generator" in caplog.text

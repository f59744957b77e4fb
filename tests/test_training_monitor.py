"""Alarms: raised on runs made to fail in each way, silent on healthy ones, and without effect on the training."""

import csv
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from lightning.pytorch import Callback

from helpers.composing import LONG, SMALL, composed, input_options
from helpers.training import Fit, built
from oakleaf.callbacks.alarms import ADVICE, Alarm
from oakleaf.callbacks.pixel_statistics import PixelStatistics, small
from oakleaf.callbacks.training_monitor import TrainingMonitor
from oakleaf.runtime.loggers import WeightsAndBiases, send_alert

QUIET = ["callbacks.samples=null", "callbacks.checkpoint=null", "trainer.enable_progress_bar=false"]
OFTEN = [*QUIET, "callbacks.training_monitor.every=1000", "log_every=10", "data.batch_size=32"]
DCGAN = ["model=dcgan", "data=digits", *SMALL, *OFTEN]


@pytest.fixture
def alarms(caplog: pytest.LogCaptureFixture) -> Any:
    """The alarms so far, by name, in order."""
    caplog.set_level(logging.WARNING, "oakleaf.callbacks.training_monitor")

    def names() -> list[str]:
        return [r.getMessage().split(":")[0] for r in caplog.records if r.name == "oakleaf.callbacks.training_monitor"]

    return names


class Spoiled(Callback):
    """Changes the module before each iteration, from so many images on."""

    def __init__(self, images: int, spoil: Any) -> None:
        self.images, self.spoil = images, spoil

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if pl_module.images_seen >= self.images:
            self.spoil(pl_module)


def spoiled(folder: Path, images: int, spoil: Any, *overrides: str) -> None:
    module, data, trainer, _ = built("trainer=cpu", *overrides, folder=folder)
    trainer.callbacks.insert(0, Spoiled(images, spoil))  # type: ignore[attr-defined]
    trainer.fit(module, datamodule=data)


@pytest.mark.slow
def test_alarm_discriminator_dominates_if_it_learns_far_too_fast(fit: Fit, alarms: Any, tmp_path: Path) -> None:
    fit(*DCGAN, "loss=saturating", "optim.discriminator.lr=2e-2", "max_images=6000")
    assert alarms().count("discriminator_dominates") == 1
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["alarm/discriminator_dominates"] for row in rows if row["alarm/discriminator_dominates"]] == ["1.0"]


@torch.no_grad()
def deaf(module: Any) -> None:
    """G hears little of its latent: the first weights that see it shrink."""
    for network in (module.game.generator, module.generator_ema.network):
        next(network.parameters()).mul_(0.0)


@pytest.mark.slow
def test_alarm_collapse_if_g_ignores_its_latents(tmp_path: Path, alarms: Any) -> None:
    toy = ["model=toy", "data=toy", "max_images=20000", *QUIET, "callbacks.training_monitor.every=1000"]
    spoiled(tmp_path, 10_000, deaf, *toy)
    assert alarms().count("collapse") == 1


@pytest.mark.slow
def test_alarm_collapse_of_a_run_that_was_collapsed_from_the_start(tmp_path: Path, alarms: Any) -> None:
    """All samples are one point, and no earlier value is there to compare with."""
    toy = ["model=toy", "data=toy", "max_images=20000", *QUIET, "callbacks.training_monitor.every=1000"]
    spoiled(tmp_path, 0, deaf, *toy, "callbacks.training_monitor.collapse_warmup_images=2000")
    assert alarms() == ["collapse"]


@pytest.mark.parametrize(
    ("coverage", "diversity", "alarm"),
    [
        ([0.01, 0.03, 0.05, 0.02, 0.04, 0.03, 0.05, 0.02, 0.01, 0.03], [0.2] * 10, True),  # few images cover the grid
        ([0.3] * 10, [0.01] * 10, True),
        (
            [0.02, 0.04, 0.15, 0.22, 0.4, 0.5, 0.5, 0.5, 0.5, 0.5],
            [0.13, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0],
            False,
        ),
    ],
)
def test_samples_are_compared_with_real_images_whatever_the_run_had_before(
    coverage: list[float], diversity: list[float], alarm: bool, alarms: Any
) -> None:
    monitor = TrainingMonitor()
    trainer = mock.MagicMock(loggers=[])
    for check, values in enumerate(zip(diversity, coverage), 1):
        module = SimpleNamespace(images_seen=10_000 * check, total_images=100_000)
        monitor._check_collapse(trainer, module, *values)  # type: ignore[arg-type]
    assert alarms() == (["collapse"] if alarm else [])


def test_mirrored_copies_are_recognised_if_training_mirrors() -> None:
    known = torch.randint(0, 256, (200, 1, 12, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    copies = small(known[:50].flip(3))
    assert PixelStatistics(known).copied(copies, 0.33) == 0
    assert PixelStatistics(known, mirrors=True).copied(copies, 0.33) == 1


@pytest.mark.slow
def test_alarm_memorisation_if_g_returns_training_images(tmp_path: Path, alarms: Any) -> None:
    """G stays itself; what it draws is looked up among the training images, with a little noise."""
    module, data, trainer, _ = built("trainer=cpu", *DCGAN, "max_images=5000", folder=tmp_path)
    data.prepare_data()
    data.setup()
    known = data.batch(torch.arange(500))["image"]

    own = module.game.generate

    def looked_up(batch: Any) -> torch.Tensor:
        if module.game.training:
            return own(batch)
        rows = (batch["latent"].double().sum(1).abs() * 1e6).long() % len(known)
        return known[rows] + 0.02 * torch.randn_like(known[rows])

    module.game.generate = looked_up  # type: ignore[method-assign, assignment]
    trainer.fit(module, datamodule=data)
    assert alarms() == ["memorisation"]


@pytest.mark.slow
def test_alarm_oscillation_at_huge_learning_rates(fit: Fit, alarms: Any) -> None:
    fit(
        *DCGAN,
        "optim.discriminator.lr=0.1",
        "optim.generator.lr=0.1",
        "max_images=6000",
        "callbacks.training_monitor.warmup_images=0",
    )
    assert "oscillation" in alarms()


@pytest.mark.slow
def test_sample_change_is_not_monitored_with_one_player(fit: Fit, tmp_path: Path) -> None:
    for model in ("vae", "dcgan"):
        fit(f"model={model}", "data=digits", *OFTEN, "max_images=2000", folder=tmp_path / model)
    logged = {
        model: "health/sample_change" in (tmp_path / model / "metrics.csv").read_text() for model in ("vae", "dcgan")
    }
    assert logged == {"vae": False, "dcgan": True}


@pytest.mark.slow
def test_alarm_ema_lag_if_ema_weights_do_not_follow(fit: Fit, alarms: Any) -> None:
    fit(*DCGAN, "optim.ema.half_life=1e9", "optim.ema.ramp=0", "max_images=10000")
    assert alarms().count("ema_lag") == 1


HEALTHY = {
    "dcgan": DCGAN,
    "hinge": [*DCGAN, "loss=hinge"],
    "relativistic": [*DCGAN, "loss=relativistic", "optim=r3gan"],
    "wgan_gp": ["model=wgan_gp", "data=digits", *SMALL, *OFTEN],
    "acgan": ["model=acgan", "data=digits", *SMALL, *OFTEN],
    "points": [
        "model=toy",
        "data=toy",
        *QUIET,
        "callbacks.training_monitor.every=2000",
        "callbacks.training_monitor.warmup_images=10000",
    ],
    "vae": ["model=vae", "data=digits", *OFTEN],
}


@pytest.mark.parametrize("seed", range(3 if LONG else 1))
@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.slow
def test_a_healthy_run_raises_no_alarm(name: str, seed: int, fit: Fit, alarms: Any, tmp_path: Path) -> None:
    fit(*HEALTHY[name], f"seed={seed}", f"max_images={20_000 if name == 'points' else 4_000}")
    assert alarms() == []
    assert "health/diversity" in (tmp_path / "metrics.csv").read_text().splitlines()[0]


@pytest.mark.slow
def test_copies_are_not_monitored_in_translation(fit: Fit, alarms: Any, tmp_path: Path) -> None:
    fit(
        "model=pix2pix",
        *input_options("pix2pix"),
        *QUIET,
        "callbacks.training_monitor.every=128",
        "data.batch_size=16",
        "max_images=384",
    )
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0]
    assert alarms() == []
    assert "health/ema_lag" in header
    assert "health/copied" not in header


@pytest.mark.slow
def test_monitoring_does_not_change_the_weights(fit: Fit, tmp_path: Path) -> None:
    alike = [*DCGAN, "max_images=960", "callbacks.training_monitor.every=160"]
    monitored, _ = fit(*alike, folder=tmp_path / "with")
    alone, _ = fit(*alike, "callbacks.training_monitor=null", folder=tmp_path / "without")
    assert "health/" in (tmp_path / "with/metrics.csv").read_text()
    assert "health/" not in (tmp_path / "without/metrics.csv").read_text()
    for name, weights in alone.state_dict().items():
        assert torch.equal(weights, monitored.state_dict()[name]), name


def test_an_alarm_is_raised_once_until_it_has_cleared() -> None:
    alarm = Alarm(patience=2)
    bad = [True, False, True, True, True, True, False, True, True, False, False, True, True]
    alarms = [alarm.update(one) for one in bad]
    assert [i for i, one in enumerate(alarms) if one] == [3, 12]


def test_every_alarm_has_advice_and_a_threshold_can_be_set() -> None:
    assert all(0 < len(advice) < 120 for advice in ADVICE.values())
    assert composed("callbacks.training_monitor.max_copied=0.5").callbacks.training_monitor.max_copied == 0.5


def test_alarms_are_sent_to_wandb_and_its_failure_ends_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Run:
        alerts: list[dict[str, str]] = []

        def alert(self, **words: str) -> None:
            self.alerts.append(words)
            if len(self.alerts) > 1:
                raise ConnectionError("no network")

    logger = WeightsAndBiases(str(tmp_path))
    logger._run = Run()
    for _ in range(2):
        send_alert([logger], "collapse", "samples are alike")
    assert Run.alerts[0] == {"title": "collapse", "text": "samples are alike", "level": "WARN"}
    assert "no network" in caplog.text

"""Periodic actions are limited by time, and a run says how long it takes and whether it is short."""

import logging
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.commands import quick
from helpers.composing import FP32, SMALL
from helpers.training import built
from oakleaf.callbacks import ExpectedDuration, expected_duration, interval
from oakleaf.callbacks.expected_duration import duration
from oakleaf.callbacks.interval import MAX_SHARE, MIN_SECONDS, Interval


class Clock:
    """A clock that a test moves, in place of the module `time`."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(interval, "time", clock)
    monkeypatch.setattr(expected_duration, "time", clock)
    return clock


def actions(one: Interval, clock: Clock, images: int, step: float, cost: float) -> list[int]:
    """Train image by image, each in `step` seconds; return after which ones the action of `cost` seconds was due."""
    module, due = SimpleNamespace(images_seen=0, global_batch_size=1, total_images=images), []
    for module.images_seen in range(1, images + 1):
        clock.now += step
        if one.is_due(module):
            with one.timed():
                clock.now += cost
            due.append(module.images_seen)
    return due


def test_an_action_is_limited_by_time_in_a_short_run_only(clock: Clock) -> None:
    long = actions(Interval(None, 20, limited=True), clock, 200, step=10.0, cost=1.0)
    assert long == [*range(20, 201, 10)]  # the first one is not known to have been long ago
    cheap = actions(Interval(None, 40, limited=True), clock, 400, step=0.01, cost=0.0)
    assert len(cheap) == 1 and cheap[0] in (210, 220), "at most one in two seconds"
    costly = actions(Interval(None, 64, limited=True), clock, 64, step=6.5, cost=6.0)  # a translator's first images
    assert costly == [2, 33, 64], f"one in {6.0 / MAX_SHARE} s"
    assert actions(Interval(5, 40, limited=True), clock, 31, step=0.1, cost=6.0) == [5, 10, 15, 20, 25, 30]
    assert len(actions(Interval(None, 10), clock, 30, step=0.01, cost=6.0)) == 10  # evaluations are not limited


def test_all_processes_save_if_the_first_one_does(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([1.0, 0.0])
    monkeypatch.setattr(interval.distributed, "broadcast_scalar", lambda value, device: next(answers))
    module = SimpleNamespace(images_seen=10, global_batch_size=10, total_images=100, device="cpu")
    one = Interval(None, 10, limited=True, joint=True)
    assert one.is_due(module) and not one.is_due(module)


def test_a_run_of_a_second_writes_its_first_and_last_samples_and_one_checkpoint(tmp_path: Path) -> None:
    module, data, trainer, _ = built(*FP32, *SMALL, "max_images=320", folder=tmp_path)
    saved: list[int] = []
    original = trainer.save_checkpoint
    trainer.save_checkpoint = lambda *arguments: (saved.append(module.images_seen), original(*arguments))  # type: ignore
    trainer.fit(module, datamodule=data)
    if sum(callback.interval.seconds for callback in trainer.callbacks if hasattr(callback, "interval")) >= MIN_SECONDS:
        pytest.skip("the machine is too slow for a short run")
    assert saved[-1] == 320 and len(saved) <= 3  # of 20
    assert len(list((tmp_path / "samples").glob("[0-9]*.png"))) <= 4  # of 20


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12.4, "12 s"), (89, "89 s"), (400, "7 min"), (7800, "2 h 10 min"), (180_000, "2 d 2 h")],
)
def test_durations_are_text(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def logged(clock: Clock, caplog: pytest.LogCaptureFixture, total: int | None, **attributes: Any) -> list[str]:
    """The lines of a run of 100 images/s, ten in a batch."""
    callback = ExpectedDuration()
    for name, value in attributes.items():
        setattr(callback, name, value)
    timers = [SimpleNamespace(time_remaining=lambda: 30.0)] if attributes.get("limited") else []
    trainer: Any = SimpleNamespace(is_global_zero=True, callbacks=timers, num_training_batches=20)
    module: Any = SimpleNamespace(images_seen=0, global_batch_size=10, total_images=total)
    with caplog.at_level(logging.INFO):
        for _ in range(100):
            module.images_seen += 10
            clock.now += 0.1
            callback.on_train_batch_end(trainer, module)
    return [record.message for record in caplog.records]


def test_the_expected_duration_is_said_once(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    (line,) = logged(clock, caplog, 40_510)
    assert re.fullmatch(r"100 images/s: about 7 min left for (40,000|39,990) images", line)


def test_a_run_that_ends_in_seconds_says_nothing(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    assert logged(clock, caplog, 1000) == []


def test_max_time_says_how_far_it_comes(
    clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expected_duration, "Timer", SimpleNamespace)
    (line,) = logged(clock, caplog, 400_000, limited=True)
    assert re.fullmatch(r"100 images/s: trainer.max_time ends the run after about 3,5[12]0 images of 400,000", line)


def test_a_short_run_says_so(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    lines = logged(clock, caplog, 1000, recipe_epochs=150)  # of 200 images
    assert lines == [
        "a short run: 1,000 images are 3.3% of the 30,000 that this recipe is made for, so its samples and numbers say "
        "little"
    ]
    caplog.clear()
    assert logged(clock, caplog, 1000, recipe_images=9000) == []


@pytest.mark.slow
def test_the_command_knows_the_length_of_its_recipe(tmp_path: Path) -> None:
    line = ["train", "data=digits", *SMALL, *FP32, "logger=csv", "trainer.enable_progress_bar=false"]
    short = quick(*line, "max_images=320", folder=tmp_path)
    assert "a short run: 320 images are 0.1% of the 268,800 that this recipe is made for" in short.stdout
    own = quick(*line, "data.epochs=1", folder=tmp_path)  # a value of the configuration itself: its length
    assert own.returncode == 0 and "short" not in own.stdout

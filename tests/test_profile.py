"""profile=true writes a trace and a summary of a few iterations, and does not change the training."""

import gzip
import json
import logging
import re
from pathlib import Path

import pytest
import torch

from helpers.composing import SMALL
from helpers.training import Fit

LARGE = ["model.game.generator.width=64", "model.game.discriminator.width=64", "data.size=32", "data.batch_size=32"]
SHORT = ["callbacks.profile.after=2", "callbacks.profile.iterations=3"]


def recorded_iterations(profile: Path) -> int:
    """How many iterations the trace contains, by the scope that Lightning opens for each."""
    events = json.loads(gzip.decompress((profile / "trace.json.gz").read_bytes()))["traceEvents"]
    return sum(event.get("name") == "run_training_batch" for event in events)


@pytest.mark.slow
def test_the_summary_names_the_operators_that_take_most_time(
    fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="oakleaf"):
        fit(*LARGE, *SHORT, "profile=true", "max_images=320", "callbacks.samples=null")
    lines = (tmp_path / "profile" / "summary.txt").read_text().splitlines()
    rules = [i for i, line in enumerate(lines) if line.startswith("---")]
    rows = [line.split()[0] for line in lines[rules[1] + 1 : rules[2]]]
    assert "Self CPU %" in lines[rules[0] + 1]
    assert len(rows) == 15
    operators = [name for name in rows if name.startswith("aten::")]
    assert "convolution" in operators[0]  # the work of networks of this size
    seconds = re.search(r"profile: (\S+) s per iteration, 3 iterations recorded", caplog.text)
    assert seconds and 0 < float(seconds[1]) < 60
    assert recorded_iterations(tmp_path / "profile") == 3


@pytest.mark.slow
def test_a_profiled_run_reaches_the_same_weights(fit: Fit, tmp_path: Path) -> None:
    run = [*SMALL, "max_images=320"]
    without, _ = fit(*run, folder=tmp_path / "without")
    profiled, _ = fit(*run, "profile=true", folder=tmp_path / "with")
    assert {file.name for file in (tmp_path / "with" / "profile").iterdir()} == {"trace.json.gz", "summary.txt"}
    assert not (tmp_path / "without" / "profile").exists()
    assert profiled.images_seen == without.images_seen == 320
    for a, b in zip(without.state_dict().values(), profiled.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_every_player_steps_during_the_recording(fit: Fit, tmp_path: Path) -> None:
    fit(*SMALL, *SHORT, "profile=true", "optim.generator.every=4", "max_images=320")
    assert recorded_iterations(tmp_path / "profile") == 4


@pytest.mark.slow
def test_a_run_that_ends_early_warns_or_writes_what_it_has(
    fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(*SMALL, "profile=true", "max_images=64")
    assert "the run ended before its iteration 10" in caplog.text and not (tmp_path / "profile").exists()
    fit(*SMALL, "profile=true", "callbacks.profile.after=2", "max_images=80", folder=tmp_path / "cut")
    assert recorded_iterations(tmp_path / "cut" / "profile") == 3

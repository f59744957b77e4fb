"""profile=true says where the time goes, and changes nothing."""

import gzip
import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from helpers.composing import SMALL
from helpers.training import Fit
from oakleaf.callbacks.profile_summary import (
    CALLBACKS,
    CASTS,
    CONVOLUTIONS,
    DATA,
    HOST,
    IDLE,
    OPTIMIZER,
    kind,
    shares,
    words,
)
from oakleaf.callbacks.profile_summary import SMALL as OTHERS

LARGE = ["model.game.generator.width=64", "model.game.discriminator.width=64", "data.size=32", "data.batch_size=32"]
SOON = ["callbacks.profile.after=2", "callbacks.profile.iterations=3"]


@pytest.fixture
def costs(fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> tuple[dict[str, float], str]:
    """Of a run of large convolutions: the shares, and what was said."""
    with caplog.at_level(logging.INFO, logger="oakleaf"):
        fit(*LARGE, *SOON, "profile=true", "max_images=320", "callbacks.samples=null")
    return json.loads((tmp_path / "profile" / "costs.json").read_text())["shares"], caplog.text


@pytest.mark.slow
def test_a_profile_names_convolutions_where_they_dominate(costs: tuple[dict[str, float], str], tmp_path: Path) -> None:
    shares, message = costs
    assert sum(shares.values()) == pytest.approx(1, abs=1e-6)
    assert all(share >= 0 for share in shares.values())
    largest = max(shares.keys() - {HOST}, key=lambda name: shares[name])  # HOST has what other programs took
    assert largest.startswith(CONVOLUTIONS) and f"{largest} {shares[largest]:.0%}" in message
    assert {DATA, OPTIMIZER, HOST} <= set(shares)
    events = json.loads(gzip.decompress((tmp_path / "profile" / "trace.json.gz").read_bytes()))["traceEvents"]
    assert sum(event.get("name") == "run_training_batch" for event in events) == 3


@pytest.mark.slow
def test_a_profiled_run_ends_at_the_same_weights(fit: Fit, tmp_path: Path) -> None:
    run = [*SMALL, "max_images=320"]
    without, _ = fit(*run, folder=tmp_path / "without")
    profiled, _ = fit(*run, "profile=true", folder=tmp_path / "with")
    assert (tmp_path / "with" / "profile" / "trace.json.gz").is_file()
    assert not (tmp_path / "without" / "profile").exists()
    assert profiled.images_seen == without.images_seen == 320
    for a, b in zip(without.state_dict().values(), profiled.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_all_players_are_updated_while_profiling(fit: Fit, tmp_path: Path) -> None:
    fit(*SMALL, *SOON, "profile=true", "optim.generator.every=4", "max_images=320")
    assert json.loads((tmp_path / "profile" / "costs.json").read_text())["turns"] == 4


@pytest.mark.slow
def test_a_run_too_short_to_profile_is_reported(fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(*SMALL, "profile=true", "max_images=64")
    assert "the run ended before its turn 10" in caplog.text and not (tmp_path / "profile").exists()
    fit(*SMALL, "profile=true", "callbacks.profile.after=2", "max_images=80", folder=tmp_path / "cut")
    assert json.loads((tmp_path / "cut" / "profile" / "costs.json").read_text())["turns"] == 3


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (["aten::conv2d", "aten::convolution", "aten::copy_"], "convolutions, forward"),
        (["aten::conv2d", "aten::to", "aten::_to_copy", "aten::copy_"], CASTS),
        (["autograd::engine::evaluate_function: AddmmBackward0", "aten::mm"], "matrix products, backward"),
        (["Optimizer.step#Adam.step", "aten::_foreach_lerp_"], OPTIMIZER),
        (["run_training_epoch", "[_TrainingEpochLoop].train_dataloader_next", "aten::_to_copy"], DATA),
        (["[Callback]Samples.on_train_batch_end", "aten::conv2d"], CALLBACKS),
        (["run_training_batch"], HOST),
        (["aten::normal_"], OTHERS),
        (["triton_poi_fused_0"], "fused kernels of compiled graphs"),
    ],
)
def test_profiled_operations_are_assigned_to_their_kind(path: list[str], expected: str) -> None:
    assert kind(path) == expected


@pytest.mark.parametrize("device", [False, True])
def test_an_operation_inside_another_counts_once(device: bool) -> None:
    def event(name: str, within: SimpleNamespace | None, whole: float, own: float) -> SimpleNamespace:
        times = {"cpu_time_total": whole, "self_cpu_time_total": own}
        times |= {"device_time_total": whole, "self_device_time_total": own}
        return SimpleNamespace(name=name, cpu_parent=within, thread=1, device_type="DeviceType.CPU", **times)

    iteration = event("run_training_batch", None, 1e6, 2e5)
    outer = event("aten::conv2d", iteration, 8e5, 1e5)
    inner = event("aten::mkldnn_convolution", outer, 7e5, 7e5)
    found = shares([iteration, outer, inner], 1.0, device)
    assert found == pytest.approx({"convolutions, forward": 0.8, HOST: 0.2} | ({IDLE: 0.0} if device else {}))


def test_advice_is_given_where_there_is_one() -> None:
    assert words({"convolutions, backward": 0.9, OPTIMIZER: 0.1}, 12).count("\n") == 0
    assert "larger data.batch_size" in words({"convolutions, backward": 0.5, HOST: 0.4}, 12)

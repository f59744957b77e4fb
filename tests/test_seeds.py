"""The same command gives the same weights, bit for bit; another seed gives others."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.commands import Result, command, quick
from helpers.composing import FP32, SMALL
from helpers.training import built
from oakleaf.builder.trainer import build_trainer
from oakleaf.runtime.checkpoint_io import read_checkpoint

TINY = [*SMALL, "max_images=32", "trainer=cpu", "logger=csv", "callbacks.samples=null"]


def weights(result: Result, folder: Path) -> dict[str, Any]:
    assert result.returncode == 0, result.stderr
    (run,) = folder.glob("outputs/*/*")
    return dict(read_checkpoint(run)["state_dict"])


def differ(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


@pytest.mark.slow
def test_the_same_command_twice_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    learned = {}
    try:
        for name, run, options in (
            ("first", command, ["seed=3", "trainer.deterministic=true"]),  # a process of its own
            ("plain", quick, ["seed=3"]),
            ("other", quick, ["seed=4"]),
            ("again", quick, ["seed=3", "trainer.deterministic=true"]),
        ):
            (tmp_path / name).mkdir()
            learned[name] = weights(run("train", *TINY, *options, folder=tmp_path / name), tmp_path / name)
    finally:
        torch.use_deterministic_algorithms(False)
    assert len(learned["first"]) > 20
    assert not differ(learned["first"], learned["again"])
    assert not differ(learned["first"], learned["plain"]), "on a CPU deterministic=true changes nothing"
    assert len(differ(learned["first"], learned["other"])) > 20


def test_deterministic_sets_the_environment_before_cuda_is_initialised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        built(*FP32, "trainer.deterministic=true", folder=tmp_path)
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.cuda.is_initialized()
        assert os.environ.pop("CUBLAS_WORKSPACE_CONFIG") in (":4096:8", ":16:8")
    finally:
        torch.use_deterministic_algorithms(False)


def test_cudnn_benchmarks_its_algorithms_unless_deterministic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, answer in (("is_available", True), ("device_count", 1), ("is_bf16_supported", True)):
        monkeypatch.setattr(torch.cuda, name, lambda answer=answer, **_: answer)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    before = torch.get_float32_matmul_precision()
    *_, recipe = built("trainer=auto", folder=tmp_path)
    try:
        for options, benchmark, matmul_precision in (
            ({}, True, "highest"),
            ({"deterministic": True}, False, "highest"),
            ({"benchmark": False}, False, "highest"),
            ({"precision": "32-true"}, True, "high"),
            ({"precision": "32-true", "accelerator": "cpu"}, False, before),
        ):
            monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
            torch.set_float32_matmul_precision(before)
            build_trainer(recipe | {"trainer": recipe["trainer"] | options})
            assert (torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()) == (
                benchmark,
                matmul_precision,
            ), options
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_float32_matmul_precision(before)

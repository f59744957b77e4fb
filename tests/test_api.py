"""Oakleaf from Python, as docs/python.md shows it."""

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

import oakleaf
from helpers.composing import ROOT
from oakleaf.errors import UserError

TINY = ["model.game.generator.width=8", "model.game.discriminator.width=8", "data.batch_size=16", "logger=csv"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_is_trained_loaded_resumed_sampled_and_evaluated(here: Path) -> None:
    run = oakleaf.train(["model=cdcgan", "data=digits", "max_images=64", *TINY])
    assert run.folder.is_relative_to(here / "outputs") or run.folder.is_relative_to("outputs")
    assert (run.folder / "metrics.csv").is_file() and run.module.images_seen == 64
    images = run.sample(20, seed=1, condition=7)
    assert images.shape == (20, 1, 16, 16) and images.dtype == torch.float32
    assert images.min() >= -1 and images.max() <= 1
    again = oakleaf.load(run.folder)
    assert torch.equal(images, again.sample(20, seed=1, condition=7))
    assert torch.equal(images, again.sample(20, seed=1, condition="7"))
    assert not torch.equal(images, again.sample(20, seed=2, condition=7))
    numbers = again.evaluate(["metric=diversity", "extractor=pixels", "fake=64", "real=128"])
    assert numbers and all(isinstance(value, float) for value in numbers.values())
    assert (run.folder / "metrics.json").is_file()
    resumed = oakleaf.train([f"resume={run.folder}", "max_images=128"])
    assert resumed.folder == run.folder and resumed.module.images_seen == 128
    assert resumed.config["model"]["name"] == "cdcgan"


@pytest.mark.slow
def test_two_runs_of_the_same_command_get_two_folders(here: Path) -> None:
    first, second = (oakleaf.train(["data=digits", "max_images=16", *TINY]) for _ in range(2))
    assert first.folder != second.folder


def test_errors_are_user_errors_and_leave_no_folder(here: Path) -> None:
    with pytest.raises(UserError, match=r"data\.batch_size"):
        oakleaf.train(["data=digits", "data.batch_size=-1"])
    assert not list((here / "outputs").rglob("*.yaml"))
    with pytest.raises(UserError, match="Did you mean model=dcgan"):
        oakleaf.train(["model=dcgn", "data=digits"])
    with pytest.raises(UserError, match=r"Did you mean data\.batch_size"):
        oakleaf.train(["data=digits", "data.batch_sise=8"])
    with pytest.raises(UserError, match="no such file or folder"):
        oakleaf.load("nowhere")


@pytest.mark.slow
def test_values_need_no_quotes_and_a_signal_does_not_end_the_process(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from oakleaf.callbacks import LogScalars

    def interrupt(self: LogScalars, trainer: Any, module: Any, *_: Any) -> None:
        if module.iteration == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(LogScalars, "on_train_batch_end", interrupt)
    run = oakleaf.train(["data=digits", "max_images=160", "folder=José's runs/a (1)", *TINY])
    assert run.folder.name == "a (1)" and run.module.images_seen < 160
    assert run.evaluate(["metric=diversity", "extractor=pixels", "fake=20", "real=60"])


@pytest.mark.slow
def test_an_unconditional_generator_refuses_a_condition(here: Path) -> None:
    run = oakleaf.train(["data=digits", "max_images=16", *TINY])
    with pytest.raises(UserError, match="count=0"):
        run.sample(0)
    with pytest.raises(UserError, match="unconditional"):
        run.sample(4, condition=1)


def test_importing_oakleaf_does_not_import_torch() -> None:
    code = "import oakleaf, sys; print('torch' in sys.modules, oakleaf.__version__)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert found == ["False", project["version"]]


def test_build_names_the_folder_that_a_command_would_choose() -> None:
    from oakleaf.builder.compose import compose_config

    recipe = oakleaf.build(compose_config("train", ["data=digits", *TINY])).recipe
    assert (
        recipe["folder"].startswith("outputs/dcgan-digits/") and recipe["logger"]["csv"]["folder"] == recipe["folder"]
    )


@pytest.mark.parametrize("overrides", ["data=digits", [3]])
def test_overrides_are_a_list_of_texts(overrides: Any) -> None:
    with pytest.raises(UserError, match="a list of overrides is expected"):
        oakleaf.train(overrides)


def test_samples_for_which_the_disk_has_no_room_are_refused_before_sampling(tmp_path: Path) -> None:
    import torch

    from oakleaf.sampling.files import Npy
    from oakleaf.sampling.sampler import _check_room

    _check_room(tmp_path, [Npy()], 10, torch.zeros(2, 1, 16, 16))
    with pytest.raises(UserError, match=r"1,000,000,000,000 images need 256,000.0 GB, and .* GB are free there"):
        _check_room(tmp_path, [Npy()], 10**12, torch.zeros(2, 1, 16, 16))

"""A package of one's own, as docs/extending.md shows it: allowed by name, trained, evaluated and sampled."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helpers.commands import Result, quick
from helpers.composing import ROOT

PACKAGE = ROOT / "tests/extension"
SHOWN = re.findall(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)^```$", (ROOT / "docs/extending.md").read_text(), re.M | re.S)


OPTIONS = ["--config-dir", str(PACKAGE / "conf"), "experiment=mine", "logger=csv", "trainer=cpu", "log_every=5"]


@pytest.fixture(autouse=True)
def _in_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PACKAGE))


def command(name: str, *arguments: str, folder: Path, trust: str = "mine") -> Result:
    """Run a command inside this process."""
    return quick(name, *arguments, folder=folder, OAKLEAF_TRUST=trust)


def train(*arguments: str, folder: Path, trust: str = "mine") -> Result:
    return command("train", *OPTIONS, *arguments, folder=folder, trust=trust)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of 320 images with every part of the package."""
    folder = tmp_path_factory.mktemp("extending")
    path = os.pathsep.join([str(PACKAGE), str(ROOT / "src")])  # as a user: in a process with the package in its path
    environment = {**os.environ, "PYTHONPATH": path, "OAKLEAF_TRUST": "mine"}
    script = [sys.executable, str(ROOT / "train.py"), *OPTIONS, "max_images=320", "folder=run"]
    result = subprocess.run(script, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return folder / "run"


@pytest.mark.parametrize(("file", "text"), SHOWN, ids=[file for file, _ in SHOWN])
def test_the_page_shows_the_files_of_the_package(file: str, text: str) -> None:
    assert (ROOT / file).read_text() == text


def test_the_page_shows_every_file_of_the_package() -> None:
    files = {str(path.relative_to(ROOT)) for kind in ("py", "yaml") for path in PACKAGE.rglob(f"*.{kind}")}
    assert {file for file, _ in SHOWN} == files - {"tests/extension/mine/__init__.py"}


@pytest.mark.slow
def test_every_part_of_the_package_is_trained(run: Path) -> None:
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"loss/discriminator/adversarial", "loss/generator/mean_features", "accuracy/real"} <= rows[0].keys()
    assert {"loss/small/r1", "loss/generator/adversarial_small", "loss/generator/spread_w"} <= rows[0].keys()
    for name in ("weight_norm/discriminator", "weight_norm/small", "contrast/real"):
        assert {row["images"] for row in rows if row[name]} <= {"160", "320"} != set()
    parts = ("games", "networks", "losses", "terms", "augment", "data", "callbacks", "module")
    config = (run / "config.yaml").read_text()
    assert not [part for part in parts if f"mine.{part}." not in config]
    content = torch.load(run / "checkpoints/last.ckpt", weights_only=False)
    state = content["state_dict"]
    assert state["game.terms.generator.mean_features.mean"].abs().sum() > 0
    assert "game.small.layers.1.weight" in state


@pytest.mark.slow
def test_a_run_of_the_package_resumes_bit_for_bit(run: Path, tmp_path: Path) -> None:
    assert train("max_images=160", "folder=half", folder=tmp_path).returncode == 0
    result = train("resume=half", "max_images=320", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    states = [torch.load(folder / "checkpoints/last.ckpt", weights_only=False) for folder in (run, tmp_path / "half")]
    one, two = (state["state_dict"] for state in states)
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


@pytest.mark.slow
def test_a_run_of_the_package_is_evaluated_sampled_and_exported(run: Path, tmp_path: Path) -> None:
    options = ["--config-dir", str(PACKAGE / "conf"), "metric=brightness", "fake=64", "real=64", f"checkpoint={run}"]
    result = command("evaluate", *options, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    (score,) = json.loads((run / "metrics.json").read_text())
    assert score["name"] == "brightness_gap"
    assert 0 <= score["baseline"] < 100
    assert command("sample", f"checkpoint={run}", "count=4", folder=tmp_path).returncode == 0
    assert (tmp_path / "samples/grid.png").is_file()
    result = command("export", f"checkpoint={run}", "out=exported", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert list((tmp_path / "exported").glob("*.safetensors"))


@pytest.mark.slow
def test_the_run_ends_when_the_monitored_loss_no_longer_falls(tmp_path: Path) -> None:
    options = ["callbacks.early_stopping.patience=1", "+callbacks.early_stopping.min_delta=1000", "max_images=3200"]
    result = train(*options, "folder=run", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    with (tmp_path / "run/metrics.csv").open(newline="") as file:
        assert max(int(row["images"]) for row in csv.DictReader(file)) < 3200


@pytest.mark.slow
def test_without_trust_nothing_of_the_package_is_built(run: Path, tmp_path: Path) -> None:
    for result in (train(folder=tmp_path, trust=""), command("sample", f"checkpoint={run}", folder=tmp_path, trust="")):
        assert result.returncode == 1
        assert "OAKLEAF_TRUST=PACKAGE" in result.stderr

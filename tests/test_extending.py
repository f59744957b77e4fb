"""A package of one's own, as docs/extending.md shows it: allowed by name, trained, evaluated and sampled."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "examples/mypackage"
SHOWN = re.findall(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)^```$", (ROOT / "docs/extending.md").read_text(), re.M | re.S)


def command(name: str, *arguments: str, folder: Path, trust: str = "mine") -> subprocess.CompletedProcess[str]:
    """Run a command with the package in the path."""
    path = os.pathsep.join([str(PACKAGE), str(ROOT / "src")])
    environment = {**os.environ, "PYTHONPATH": path, "OAKLEAF_TRUST": trust, "OAKLEAF_CACHE": str(folder / "cache")}
    script = [sys.executable, str(ROOT / f"{name}.py"), *arguments]
    return subprocess.run(script, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def train(*arguments: str, folder: Path, trust: str = "mine") -> subprocess.CompletedProcess[str]:
    options = ["--config-dir", str(PACKAGE / "conf"), "experiment=mine", "logger=csv", "trainer=cpu", "log_every=5"]
    return command("train", *options, *arguments, folder=folder, trust=trust)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of 320 images with every part of the package."""
    folder = tmp_path_factory.mktemp("extending")
    result = train("max_images=320", "folder=run", folder=folder)
    assert result.returncode == 0, result.stderr
    return folder / "run"


@pytest.mark.parametrize(("file", "text"), SHOWN, ids=[file for file, _ in SHOWN])
def test_the_page_shows_the_files_of_the_package(file: str, text: str) -> None:
    assert (ROOT / file).read_text() == text


def test_the_page_shows_every_file_of_the_package() -> None:
    files = {str(path.relative_to(ROOT)) for kind in ("py", "yaml") for path in PACKAGE.rglob(f"*.{kind}")}
    assert {file for file, _ in SHOWN} == files - {"examples/mypackage/mine/__init__.py"}


@pytest.mark.slow
def test_every_part_of_the_package_is_trained(run: Path) -> None:
    with (run / "metrics.csv").open(newline="") as file:
        logged = set(next(csv.reader(file)))
    assert {"loss/discriminator/adversarial", "loss/generator/mean_image", "accuracy/real"} <= logged
    assert {"weight_norm/discriminator", "weight_norm/generator"} <= logged
    config = (run / "config.yaml").read_text()
    assert not [
        kind for kind in ("games", "networks", "losses", "terms", "data", "callbacks") if f"mine.{kind}." not in config
    ]


@pytest.mark.slow
def test_a_run_of_the_package_is_evaluated_and_sampled(run: Path, tmp_path: Path) -> None:
    options = ["--config-dir", str(PACKAGE / "conf"), "metric=brightness", "fake=64", "real=64", f"checkpoint={run}"]
    result = command("evaluate", *options, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    (score,) = json.loads((run / "metrics.json").read_text())
    assert score["name"] == "brightness_gap"
    assert 0 <= score["baseline"] < 100
    assert command("sample", f"checkpoint={run}", "count=4", folder=tmp_path).returncode == 0
    assert (tmp_path / "samples/grid.png").is_file()


@pytest.mark.slow
def test_without_trust_nothing_of_the_package_is_built(run: Path, tmp_path: Path) -> None:
    for result in (train(folder=tmp_path, trust=""), command("sample", f"checkpoint={run}", folder=tmp_path, trust="")):
        assert result.returncode == 1
        assert "OAKLEAF_TRUST=PACKAGE" in result.stderr

"""The wheel, installed elsewhere, brings its configuration and its commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.composing import ROOT


@pytest.mark.slow
def test_commands_work_from_a_wheel_in_another_folder(tmp_path: Path) -> None:
    wheels, site, elsewhere = tmp_path / "wheels", tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (wheel,) = wheels.glob("oakleaf-*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True, timeout=300)
    assert (site / "oakleaf" / "conf" / "train.yaml").is_file()
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def run(name: str, *arguments: str) -> str:
        script = site / "bin" / name
        command = [sys.executable, str(script), *arguments]
        result = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
        return result.stdout

    where = "import oakleaf, oakleaf.config.paths as door; print(oakleaf.__file__, door.conf_dir())"
    found = subprocess.run(
        [sys.executable, "-c", where], cwd=elsewhere, env=environment, capture_output=True, text=True
    )
    assert found.stdout.split() == [str(site / "oakleaf" / "__init__.py"), str(site / "oakleaf" / "conf")]
    assert "model: acgan, " in run("oakleaf-train", "--help")
    run("oakleaf-train", "max_images=128", "logger=csv", "model.game.generator.width=4")
    (folder,) = elsewhere.glob("outputs/dcgan-digits/*")
    assert "4 images of 16 x 16" in run("oakleaf-sample", f"checkpoint={folder}", "count=4")
    assert (elsewhere / "samples" / "grid.png").is_file()
    assert "images differ by at most" in run("oakleaf-export", f"checkpoint={folder}")
    assert (elsewhere / "exported" / "card.json").is_file()

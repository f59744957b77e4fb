"""docs/reference/ is what docs/generate_reference.py writes, and its table names all that a run logs."""

import csv
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oakleaf.callbacks.alarms import ADVICE

ROOT = Path(__file__).resolve().parent.parent
CONF, PAGES = ROOT / "conf", ROOT / "docs/reference"
TINY = ["logger=csv", "data.batch_size=16", "max_images=320", "log_every=5"]
MONITORED = ["callbacks.training_monitor.every=160", "callbacks.training_monitor.count=16"]
SCORED = ["callbacks=scored", "metric@callbacks.evaluate.metric=fid", "extractor@callbacks.evaluate.extractor=pixels"]
SCORED += ["callbacks.evaluate.every=320", "callbacks.evaluate.extractor.side=2", "callbacks.evaluate.fake=64"]
WIDTHS = ["model.game.generator.width=8", "model.game.discriminator.width=8"]
LEVELS = [f"model.game.{player}.base.units=16" for player in ("generator", "discriminator")]
LEVELS += [f"model.game.{player}.detail.width=8" for player in ("generator", "discriminator")]
RUNS = {  # each logs names that the others do not
    "monitored and scored": ["model=dcgan", *WIDTHS, *MONITORED, *SCORED],
    "penalties, unbounded scores": ["model=dcgan", *WIDTHS, "loss=relativistic"],
    "a state of the objective": ["model=began", *WIDTHS],
    "terms of a system": ["model=acgan", *WIDTHS],
    "an augmentation and a term with state": ["model=dcgan", *WIDTHS, "augment=ada", "+loss/penalty=lecam"],
    "an encoder": ["model=bigan", "model.game.generator.hidden=[8]", "model.game.encoder.hidden=[8]"],
    "levels": ["model=lapgan", *LEVELS],
    "levels, unbounded scores": ["model=lapgan", *LEVELS, "loss=hinge"],
    "reconstruction": ["model=vae", "model.game.generator.encoder.width=8", "model.game.generator.decoder.width=8"],
    "likelihood": ["model=gmm", "model.game.generator.components=2", "model.game.generator.factors=1"],
    "captions": ["model=gan_cls", *WIDTHS, "data=emoji_captions", "data.size=16"],
    "captions, unbounded scores": ["model=gan_cls", *WIDTHS, "data=emoji_captions", "data.size=16", "loss=hinge"],
}


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Return a function that imports a module of docs/."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return importlib.import_module


@pytest.mark.slow
def test_the_pages_are_those_that_the_script_writes(reference: Callable[[str], Any], tmp_path: Path) -> None:
    reference("generate_reference").main(tmp_path)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    committed = {path.name: path.read_text() for path in PAGES.iterdir()}
    different = sorted(name for name in written.keys() | committed.keys() if written.get(name) != committed.get(name))
    assert not different, "run: make reference"


def test_every_group_and_data_set_is_described(reference: Callable[[str], Any]) -> None:
    tables = reference("reference_tables")
    folders = {str(path.parent.relative_to(CONF)) for path in CONF.rglob("*.yaml")} - {"."}
    assert set(tables.GROUPS) == folders
    assert set(tables.DATA_NEEDS) == {path.stem for path in (CONF / "data").glob("*.yaml")}


def pattern(name: str) -> re.Pattern[str]:
    """Return what a name of the table stands for: angle brackets are anything without a slash."""
    return re.compile("[^/]+".join(map(re.escape, re.split(r"<[^>]*>", name))))


def test_every_alarm_is_in_the_table(reference: Callable[[str], Any]) -> None:
    names = {name for name, _, _ in reference("reference_tables").LOGGED_NAMES if name.startswith("alarm/")}
    assert names == {f"alarm/{name}" for name in ADVICE}


@pytest.mark.slow
@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS)
def test_every_logged_name_is_in_the_table(
    options: list[str], fit: Callable[..., Any], captions: Path, tmp_path: Path, reference: Callable[[str], Any]
) -> None:
    root = [f"data.root={captions}"] if "data=emoji_captions" in options else []
    fit(*TINY, *options, *root)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        logged = set(next(csv.reader(file))) - {"images"}
    known = [pattern(name) for name, _, _ in reference("reference_tables").LOGGED_NAMES]
    assert "epoch" in logged
    assert not {name for name in logged if not any(one.fullmatch(name) for one in known)}


def test_the_changelog_names_modules_and_classes_that_exist() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    rows = changelog.split("### Renamed: modules")[1].split("###")[0].splitlines()
    cells = [row.split(" | ")[1] for row in rows if row.startswith("| `")]
    assert len(cells) > 70
    for cell in cells:
        modules = re.findall(r"`([\w.]+)`", re.sub(r"\(.*?\)", "", cell))
        for module in modules:
            importlib.import_module(f"oakleaf.{module}")
        found = importlib.import_module(f"oakleaf.{modules[0]}")
        assert not [
            name for name in re.findall(r"`(\w+)`", "".join(re.findall(r"\(.*?\)", cell))) if not hasattr(found, name)
        ]

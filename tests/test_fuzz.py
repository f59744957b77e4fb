"""Bad input of every kind ends in an error of one sentence. `make torture` tries many more of each."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from helpers.commands import quick
from oakleaf.cli import train
from torture import checkpoints, overrides, pictures
from torture.within import Outcome


def kinds(found: Iterable[tuple[str, Outcome]], good: set[str]) -> Counter[str]:
    """Return the count of each kind; outcomes of any other kind fail the test and are printed in full."""
    outcomes = list(found)
    bad = [f"{outcome.kind}: {what}\n  {outcome.words}" for what, outcome in outcomes if outcome.kind not in good]
    assert not bad, "\n".join(bad)
    return Counter(outcome.kind for _, outcome in outcomes)


@pytest.mark.slow
def test_random_command_lines_end_in_a_run_or_an_error_of_one_sentence(tmp_path: Path) -> None:
    found = ((" ".join(line), overrides.tried(line, tmp_path)) for line in overrides.lines(15, seed=7))
    assert kinds(found, {"ran", "sentence"})["sentence"] > 3


def test_a_traceback_is_counted_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise AssertionError("ours")

    monkeypatch.setattr(train, "train_in", broken)
    assert overrides.tried(["logger=csv"], tmp_path).kind == "traceback"


def test_damaged_pictures_are_decoded_or_named(tmp_path: Path) -> None:
    found = kinds(pictures.all_tried(60, 1, tmp_path), {"decoded", "skipped"})
    assert min(found["decoded"], found["skipped"]) > 10


@pytest.mark.slow
def test_damaged_and_forged_checkpoints_load_or_are_refused(tmp_path: Path) -> None:
    found = kinds(checkpoints.all_tried(30, 1, tmp_path), {"loaded", "sentence"})
    assert min(found["loaded"], found["sentence"]) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["metric=fid"], "metric"),  # another command's group
        (["a\nb"], "this is no override"),
        (["++optim.discriminator.schedules=true"], "a mapping with a _target_"),
        (["optim.ema.ramp={_target_: torch.nn.ReLU}"], "a single value, not a mapping"),
        (["data.source._partial_={}"], "should be true or false"),
        (["~model.game.generator"], "model.game: missing"),
        (["~trainer.devices"], "it is needed"),
        (["seed=" + "9" * 400], "the number is too large"),
        (["trainer.max_time=0"], "trainer.max_time=0: DD:HH:MM:SS is expected"),
        (["~optim"], "optim= is missing"),
        (["callbacks.progress={_target_: torch.nn.ReLU}"], "callbacks.progress: a ReLU"),
        (["+=a"], "this is no command line"),
        (["trainer.accelerator=cpu", "trainer.devices=100000"], "at most"),
        (["data=side_by_side", "experiment=gmm_ring"], "data/mixture"),
        (["resume=[]"], "resume=[]: the folder of a run"),
        (["resume=7"], "7: there is no such file or folder"),
        (["nonfinite=inf"], "nonfinite=inf: it is a mapping; set its keys"),
        (["++sweep=1e-300"], "sweep=1e-300: it is a mapping; set its keys"),
        (["~model.game"], "model.game= is missing"),
        (["model.game=null"], "model.game= is missing"),
        (["model.game.generator.norm=spectral"], "should be batch, layer, instance or none"),
        (["data=folder", "data.root=José's (a=b)"], "José's (a=b) does not exist"),
        (["model.game.generator.hidden=[128,128"], "this is no override"),
        (["data=folder", "data.root=José, Ana"], """write 'data.root="José, Ana"'"""),
    ],
)
def test_errors_that_random_command_lines_found(overrides: list[str], words: str, tmp_path: Path) -> None:
    result = quick("train", *overrides, "logger=csv", folder=tmp_path)
    assert result.returncode == 1
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr

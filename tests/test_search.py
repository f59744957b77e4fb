"""A search by Optuna: suggestions, results, pruning, and continuing after a kill."""

import time
from collections.abc import Sequence
from dataclasses import replace
from math import log10
from pathlib import Path
from typing import Any

import optuna
import pytest

from helpers.composing import composed
from helpers.marks import slow_except
from oakleaf.errors import UserError
from oakleaf.sweeps.job_runner import evaluation_overrides
from oakleaf.sweeps.job_state import STOP, Job, read_job, write_job
from oakleaf.sweeps.names import job_name
from oakleaf.sweeps.pruning import prune_in_background, training_scores
from oakleaf.sweeps.search import Settings, run_search
from oakleaf.sweeps.space import search_space, to_overrides, to_params
from oakleaf.sweeps.study import Study

RATE = "optim.generator.lr"
LINE = [f"{RATE}=tag(log,interval(1e-5,1e-1))", "loss=hinge,least_squares", "logger=csv"]
RANDOM = {"_target_": "optuna.samplers.RandomSampler"}
MEDIAN = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 1, "n_warmup_steps": 1}


def configured(folder: Path, *options: str) -> Any:
    config = composed(*options)
    config._set_flag("struct", False)
    overrides = ["hydra/sweeper=optuna", "hydra.mode=MULTIRUN", "hydra.sweep.dir=/home/me/sweep"]
    config.hydra = {"sweep": {"dir": str(folder)}, "overrides": {"hydra": overrides}}
    return config


class FakeLauncher:
    """A launcher whose jobs end at once; the nearer the learning rate to 1e-3 the better.

    With `after` the kill comes when the jobs have ended, before the study has their results.
    """

    def __init__(self, killed_at: int | None = None, options: Sequence[str] = (), after: bool = False) -> None:
        self.launched: list[str] = []
        self.killed_at, self.after, self.evaluated = killed_at, after, evaluation_overrides(composed(*options))

    def __call__(self, folder: Path, jobs: dict[str, list[str]]) -> None:
        for name, overrides in jobs.items():
            self.launched.append(name)
            if len(self.launched) == self.killed_at and not self.after:
                raise KeyboardInterrupt
            values = dict(override.split("=", 1) for override in overrides)
            swept = [o for o in overrides if o.startswith((RATE, "loss"))]
            job = Job(name, overrides, swept, "done", images=10, evaluated=self.evaluated)
            far = (log10(float(values[RATE])) + 3) ** 2
            job.scores = {"coverage-classifier": -far} if "metric=prdc" in self.evaluated else {"fid-classifier": far}
            job.better = {name: "higher" if name.startswith("coverage") else "lower" for name in job.scores}
            write_job(folder / name, job)
        if self.after and len(self.launched) == self.killed_at:
            raise KeyboardInterrupt


def searched(
    folder: Path,
    launch: FakeLauncher,
    trials: int = 6,
    line: list[str] = LINE,
    options: Sequence[str] = (),
    **settings: Any,
) -> None:
    values = Settings(**{"trials": trials, "batch": 2, "storage": None, "sampler": RANDOM, "pruner": None} | settings)
    run_search(configured(folder, *options), line, lambda jobs: None, launch, values)


def written(job: Job | None) -> Job:
    assert job is not None
    return job


def values_of(folder: Path, word: str) -> tuple[str, list[float]]:
    """The direction and the values of the study whose name contains a word."""
    storage = f"sqlite:///{folder / 'study.db'}"
    (name,) = (name for name in optuna.get_all_study_names(storage) if word in name.split())
    study = optuna.load_study(study_name=name, storage=storage)
    return study.direction.name, sorted(t.value for t in study.trials if t.value is not None)


@pytest.mark.parametrize("storage", slow_except([None], [None, "study.journal"]))
def test_a_killed_search_continues_with_the_same_study(tmp_path: Path, storage: str | None) -> None:
    storage = storage and str(tmp_path / storage)
    killed, after = FakeLauncher(killed_at=4), FakeLauncher()
    with pytest.raises(KeyboardInterrupt):
        searched(tmp_path, killed, storage=storage)
    searched(tmp_path, after, storage=storage)
    assert after.launched[0] == killed.launched[3]  # unfinished trials are continued first
    done = {*killed.launched[:3], *after.launched}
    assert len(done) == 6
    assert not {*killed.launched[:3]} & {*after.launched}  # nothing is run twice
    nothing = FakeLauncher()
    searched(tmp_path, nothing, storage=storage)
    assert nothing.launched == []
    report = (tmp_path / "report.md").read_text()
    assert "\n| 6 | " in report
    assert "python train.py -m hydra/sweeper=optuna " in report and "/home/me" not in report
    searched(tmp_path, more := FakeLauncher(), trials=8, storage=storage)
    assert len(more.launched) == 2


@pytest.mark.slow
def test_another_score_has_its_own_study_and_runs_are_evaluated_again(tmp_path: Path) -> None:
    searched(tmp_path, first := FakeLauncher())
    options = ["sweep.metric=prdc", "sweep.measure=coverage"]
    searched(tmp_path, again := FakeLauncher(options=options), options=options)
    assert sorted(again.launched) == sorted(first.launched)  # for the evaluation: none is new
    (low, fids), (high, coverages) = values_of(tmp_path, "fid"), values_of(tmp_path, "coverage")
    assert (low, high, len(fids)) == ("MINIMIZE", "MAXIMIZE", 6)
    assert coverages == sorted(-fid for fid in fids)
    report = (tmp_path / "report.md").read_text()
    assert "coverage-classifier" in report and "higher is better" in report
    searched(tmp_path, more := FakeLauncher(options=options), trials=8, options=options)
    assert len(more.launched) == 2 and not {*more.launched} & {*first.launched}
    assert len(values_of(tmp_path, "coverage")[1]) == 8


@pytest.mark.slow
def test_runs_of_two_lengths_are_not_compared(tmp_path: Path) -> None:
    searched(tmp_path, first := FakeLauncher(), line=[*LINE, "max_images=1000"])
    for line in ([*LINE, "max_images=2000"], LINE, [*LINE, "max_images=1000", "+trainer.max_time=00:01:00:00"]):
        with pytest.raises(UserError, match=r"another length \(max_images=1000\)"):
            searched(tmp_path, first, trials=7, line=line)
    searched(tmp_path, one_more := FakeLauncher(), trials=7, line=["max_images=1000", *LINE])
    assert len(one_more.launched) == 1 and not {*one_more.launched} & {*first.launched}


@pytest.mark.slow
def test_the_first_suggestions_of_another_study_are_new(tmp_path: Path) -> None:
    searched(tmp_path, FakeLauncher())
    options = ["sweep.metric=prdc", "sweep.measure=coverage"]
    searched(tmp_path, FakeLauncher(options=options), trials=9, options=options)
    assert len(values_of(tmp_path, "coverage")[1]) == 9


@pytest.mark.slow
def test_a_killed_evaluation_continues(tmp_path: Path) -> None:
    searched(tmp_path, first := FakeLauncher())
    other, stopped = ["sweep.fake=5000"], first.launched[2]
    write_job(tmp_path / stopped, replace(written(read_job(tmp_path / stopped)), state="stopped"))
    searched(tmp_path, again := FakeLauncher(options=other), options=other)
    assert sorted(again.launched) == sorted(first.launched)
    assert len(values_of(tmp_path, "fake=5000")[1]) == 6


@pytest.mark.slow
def test_results_from_before_a_kill_are_added_to_the_study(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        searched(tmp_path, killed := FakeLauncher(killed_at=4, after=True))
    pruned = written(read_job(tmp_path / killed.launched[3]))
    write_job(tmp_path / pruned.name, replace(pruned, state="pruned", scores={}, better={}))
    searched(tmp_path, after := FakeLauncher())
    assert len(after.launched) == 2 and not {*after.launched} & {*killed.launched}
    assert len(values_of(tmp_path, "fid")[1]) == 5
    (name,) = optuna.get_all_study_names(f"sqlite:///{tmp_path / 'study.db'}")
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3 + ["PRUNED"] + ["COMPLETE"] * 2


def test_overrides_are_converted_back_to_parameters() -> None:
    _, ranges = search_space(["a=x,1", "b=interval(1.23456,2.34567)", "c=int(interval(8,64))"])
    for params in ({"a": "x", "b": 1.23456, "c": 8}, {"a": "1", "b": 2.34567, "c": 64}, {"a": "1", "b": 1.5, "c": 9}):
        assert to_params(to_overrides(params), ranges) == params
    for foreign in (["a=y", "b=2", "c=8"], ["a=x", "b=9", "c=8"], ["a=x", "b=2"], ["a=x", "b=2", "c=8", "d=1"]):
        assert to_params(foreign, ranges) is None


@pytest.mark.slow
def test_a_small_space_is_searched_to_its_end(tmp_path: Path) -> None:
    searched(tmp_path, launch := FakeLauncher(), trials=50, line=[f"{RATE}=1e-4,1e-3", "logger=csv"])
    assert len(launch.launched) == len(set(launch.launched)) == 2


@pytest.mark.filterwarnings("ignore:BruteForceSampler is experimental")
@pytest.mark.parametrize("kind", ["GridSampler", "BruteForceSampler"])
@pytest.mark.slow
def test_a_sampler_without_further_suggestions_ends_the_search(tmp_path: Path, kind: str) -> None:
    sampler: dict[str, Any] = {"_target_": f"optuna.samplers.{kind}"}
    if kind == "GridSampler":
        sampler["search_space"] = {RATE: ["0.0001", "0.001"], "loss": ["hinge", "least_squares"]}
    line = [f"{RATE}=1e-4,1e-3", "loss=hinge,least_squares", "logger=csv"]
    searched(tmp_path, launch := FakeLauncher(), trials=50, line=line, sampler=sampler)
    assert len(launch.launched) == len(set(launch.launched)) == 4
    assert "| 4 | " in (tmp_path / "report.md").read_text()
    if kind == "GridSampler":
        sampler["search_space"] = {RATE: [7], "loss": ["hinge"]}
        with pytest.raises(UserError, match=r"hydra\.sweeper\.sampler: .7. not in"):
            searched(tmp_path / "other", FakeLauncher(), line=line, sampler=sampler)


def test_hydras_sweep_syntax_defines_the_space() -> None:
    fixed, found = search_space(
        [
            *("a=choice(x,y)", "b=range(1,9,2)", "c=interval(0,1)", "d=tag(log,interval(1e-5,1e-3))"),
            *("e=1", "f=3,5", "g=int(interval(8,64))"),
        ]
    )
    assert fixed == ["e=1"]
    assert {key: repr(value) for key, value in found.items()} == {
        "a": "CategoricalDistribution(choices=('x', 'y'))",
        "b": "IntDistribution(high=7, log=False, low=1, step=2)",
        "c": "FloatDistribution(high=1.0, log=False, low=0.0, step=None)",
        "d": "FloatDistribution(high=0.001, log=True, low=1e-05, step=None)",
        "f": "CategoricalDistribution(choices=('3', '5'))",
        "g": "IntDistribution(high=64, log=False, low=8, step=1)",
    }


def test_a_bad_run_is_pruned_by_its_scores(tmp_path: Path) -> None:
    _, ranges = search_space(LINE)
    settings = Settings(3, 1, None, RANDOM, MEDIAN)
    study = Study(tmp_path, ranges, settings, "fid", ["metric=fid"], 0)
    good, bad = ([1.0, 0.5, 0.2], [9.0, 9.0, 9.0])
    for scores, pruned in ((good, False), (bad, True)):
        (swept,) = study.ask(1)
        name = job_name(swept)
        (tmp_path / name).mkdir()
        lines = ["images,metric/fid-classifier,loss/discriminator/r1"]
        lines += [f"{i},,3.5\n{i},{score},2" for i, score in enumerate(scores)]
        (tmp_path / name / "metrics.csv").write_text("\n".join(lines) + "\n3,0.")
        assert training_scores(tmp_path / name, "fid") == scores
        with prune_in_background(tmp_path, study, [name], interval=0.05):
            time.sleep(0.5)
        assert (tmp_path / name / STOP).exists() is pruned
        job = Job(name, [], swept, "pruned" if pruned else "done", evaluated=["metric=fid"])
        job.scores = {} if pruned else {"fid-classifier": 0.2}
        study.tell({name: job})
    assert [trial.state.name for trial in study.study.trials] == ["COMPLETE", "PRUNED"]


def test_an_unknown_score_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"choose a score of sweep\.metric"):
        Study(tmp_path, {}, Settings(1, 1, None, RANDOM, None), "nothing", ["metric=fid"], 0)

"""Sweeps: the ranking at their end, continuing after a stop, and mistakes."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from scipy.stats import ttest_rel

from helpers.commands import command, quick
from helpers.composing import ROOT, SMALL, composed
from oakleaf.config.overrides import quote
from oakleaf.errors import UserError
from oakleaf.report.charts import Series
from oakleaf.runtime.checkpoint_io import read_checkpoint
from oakleaf.runtime.locks import file_lock, is_locked
from oakleaf.sweeps.devices import reserve_gpus
from oakleaf.sweeps.grid import sweeper_overrides
from oakleaf.sweeps.job_state import JOB, LOCK, SWEEP, Job, current_job, read_job, write_job, write_json
from oakleaf.sweeps.names import combinations, job_name, sweep_name
from oakleaf.sweeps.page import mean_over_seeds
from oakleaf.sweeps.ranking import Difference, describe, differences, rank, verdict
from oakleaf.sweeps.report import _ranking_score
from oakleaf.sweeps.status import status

CPU = [*SMALL, "trainer=cpu", "logger=csv", "trainer.enable_progress_bar=false"]
MEASURED = ["sweep.extractor=pixels", "sweep.fake=300"]
LONG = [*CPU, "max_images=3200", "callbacks.checkpoint.every=160", "callbacks.samples.every=3200"]


def until(happened: Any, seconds: float = 240.0) -> None:
    end = time.time() + seconds
    while not happened():
        assert time.time() < end
        time.sleep(0.05)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]


@pytest.mark.slow
def test_a_killed_sweep_continues_with_the_same_result(tmp_path: Path) -> None:
    line = ["-m", *LONG, *MEASURED, "seed=0,1", "sweep.metric=fid"]
    script = [sys.executable, str(ROOT / "train.py"), *line]
    sweep = subprocess.Popen(script, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: list(tmp_path.glob("outputs/sweeps/*/seed1/checkpoints/last.ckpt")))
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()
    (folder,) = tmp_path.glob("outputs/sweeps/*")
    until(lambda: not is_locked(folder / "seed1" / LOCK))  # its job ends with it
    assert read_checkpoint(folder / "seed1")["images_seen"] < 3200
    assert "seed1  stopped" in status(folder)
    before = (folder / "seed0" / "checkpoints" / "last.ckpt").stat().st_mtime_ns

    again = quick("train", *line, folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "1 of 2 jobs are done already" in again.stdout
    assert (folder / "seed0" / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before
    jobs = {job["job"]: job for job in csv.DictReader((folder / "results.csv").open())}
    assert {name: (job["state"], job["attempts"]) for name, job in jobs.items()} == {
        "seed0": ("done", "1"),
        "seed1": ("done", "2"),
    }
    alone = quick("train", *LONG, "seed=1", folder=tmp_path)
    assert alone.returncode == 0, alone.stderr
    (run,) = tmp_path.glob("outputs/dcgan-digits/*")
    uninterrupted, resumed = weights(run), weights(folder / "seed1")
    assert all(torch.equal(uninterrupted[name], resumed[name]) for name in uninterrupted)
    values = [float(job["fid-pixels"]) for job in jobs.values()]
    assert f"{sum(values) / 2:.4g} +- " in (folder / "report.md").read_text()

    nothing = quick("train", *line, folder=tmp_path)
    assert nothing.returncode == 0, nothing.stderr
    assert "2 of 2 jobs are done already" in nothing.stdout


@pytest.mark.slow
def test_a_sweep_of_one_job_trains_evaluates_and_reports(tmp_path: Path) -> None:
    line = [*CPU, *MEASURED, "max_images=32", "seed=3", "sweep.metric=fid"]
    result = quick("train", "-m", *line, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    (folder,) = tmp_path.glob("outputs/sweeps/*")
    (job,) = csv.DictReader((folder / "results.csv").open())
    assert (job["state"], job["images"]) == ("done", "32")
    assert float(job["fid-pixels"]) > 0
    assert (folder / "report.md").is_file() and list(folder.glob("*.png"))
    assert read_checkpoint(folder / job["job"])["images_seen"] == 32


@pytest.mark.slow
def test_jobs_of_several_processes_run_in_a_sweep_also_after_a_failed_job(tmp_path: Path) -> None:
    two = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "logger=csv", *SMALL, "max_images=320"]
    result = command("train", "-m", *two, *MEASURED, "data.size=17,16", folder=tmp_path)
    assert result.returncode == 1  # size 17 is no DCGAN's
    assert "size17: failed, data.size=17: a DCGAN doubles" in result.stderr.splitlines()[-1]
    assert "batches of 2 x 16 = 32" in result.stdout
    (folder,) = tmp_path.glob("outputs/sweeps/*")
    assert not list(tmp_path.glob("outputs/dcgan*"))  # no rank made a folder of its own
    assert read_checkpoint(folder / "size16")["images_seen"] == 320
    states = {job["job"]: (job["state"], job["images"]) for job in csv.DictReader((folder / "results.csv").open())}
    assert states == {"size17": ("failed", "0"), "size16": ("done", "320")}
    report = (folder / "report.md").read_text()
    assert "| 1 | 16 | " in report
    assert "nearest: 16" in report
    assert Image.open(folder / "samples.png").width > 200
    shown = quick("train", f"sweep.status={folder}", folder=tmp_path)
    assert shown.stdout.splitlines()[-1] == "1 failed, 1 done", shown.stderr


def test_the_status_needs_no_torch_and_no_other_override(tmp_path: Path) -> None:
    refused = quick("train", "sweep.status=x", "seed=1", folder=tmp_path)
    assert (refused.returncode, refused.stderr) == (
        1,
        "sweep.status=x stands alone: python train.py sweep.status=FOLDER\n",
    )
    assert not list(tmp_path.glob("outputs/*/*"))
    code = "import sys; sys.argv = ['train.py', 'sweep.status=/nowhere']; from oakleaf.cli.train import main\n"
    code += "try: main()\nexcept SystemExit as end: print(end)\nprint('torch' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "there is no sweep" in output
    assert output.splitlines()[-1] == "False"


def test_names_of_sweep_and_jobs_follow_from_the_command() -> None:
    words = ["model=dcgan,sngan", "seed=0,1", "optim.generator.lr=1e-4,2e-4", "max_images=100"]
    name = sweep_name(words)
    assert name.startswith("model-generator.lr-seed-")
    assert sweep_name(list(reversed(words))) == name
    assert sweep_name([*words[:-1], "max_images=200", "sweep.metric=kid"]) == name  # longer, with another metric
    assert sweep_name([*words, "loss=hinge"]) != name
    names = [job_name(swept) for _, swept in combinations(words)]
    assert names[0] == "dcgan-generator.lr0.0001-seed0"
    assert len(set(names)) == 8
    assert job_name(["data.root=/a/b c"]) != job_name(["data.root=/a/b_c"])
    (overrides, _), *_ = combinations(["~loss.penalties.r2", "+x=1,2"])
    assert overrides == ["~loss.penalties.r2", "+x=1"]
    with pytest.raises(UserError, match="hydra/sweeper=optuna"):
        combinations(["optim.generator.lr=interval(0,1)"])


def test_a_longer_sweep_continues_and_a_different_one_is_refused(tmp_path: Path) -> None:
    done = Job("seed0", ["seed=0", "max_images=100"], ["seed=0"], "done", evaluated=["metric=fid"])
    write_job(tmp_path, done)
    assert current_job(tmp_path, Job("seed0", list(done.overrides), ["seed=0"])) == done
    longer = current_job(tmp_path, Job("seed0", ["seed=0", "max_images=200"], ["seed=0"]))
    assert (longer.state, longer.overrides[1]) == ("stopped", "max_images=200")
    with pytest.raises(UserError, match="another folder"):
        current_job(tmp_path, Job("seed0", ["seed=0", "model=gan"], ["seed=0"]))
    (tmp_path / JOB).write_text("{ half")
    assert read_job(tmp_path) is None


def test_the_ranking_is_over_seeds_in_the_better_direction() -> None:
    def job(loss: str, seed: int, value: float | None, better: str) -> Job:
        scores = {} if value is None else {"fid-x": value, "fidelity": 9.0}
        job = Job(f"{loss}{seed}", [], [f"loss={loss}", f"seed={seed}"], "done", seconds=2.0, images=10)
        job.scores, job.better = scores, dict.fromkeys(scores, better)
        return job

    for better, expected in (("lower", ["a", "b", "c"]), ("higher", ["a", "b", "c"])):
        values = [("a", 0, 4.0), ("c", 0, None), ("a", 1, 6.0), ("b", 0, 3.0), ("b", 1, None)]
        ranking = rank([job(loss, seed, value, better) for loss, seed, value in values], "fid")
        assert [one.swept for one in ranking] == [(f"loss={loss}",) for loss in expected]
        a, b, c = (next(one for one in ranking if one.swept == (f"loss={loss}",)) for loss in "abc")
        assert (a.mean, b.sd, c.best) == (5.0, None, None)
        assert a.sd == pytest.approx(2**0.5)
        assert a.best is not None
        assert a.best.name == ("a0" if better == "lower" else "a1")
        assert a.score_name == "fid-x"


def test_each_job_gets_a_gpu_of_its_own(tmp_path: Path) -> None:
    gpu = {"CUDA_VISIBLE_DEVICES": "0,2,GPU-5"}
    trainer = lambda devices: SimpleNamespace(accelerator="auto", devices=devices)  # noqa: E731
    with mock.patch.dict(os.environ, gpu), mock.patch("tempfile.gettempdir", return_value=str(tmp_path)):
        with reserve_gpus(trainer(1)) as first, reserve_gpus(trainer(1)) as second:
            assert (first["CUDA_VISIBLE_DEVICES"], second["CUDA_VISIBLE_DEVICES"]) == ("0", "2")
            with reserve_gpus(trainer(2)) as third:  # only one is left
                assert third["CUDA_VISIBLE_DEVICES"] == "GPU-5,0"
        with reserve_gpus(trainer(2)) as two:
            assert two["CUDA_VISIBLE_DEVICES"] == "0,2"
        for all_of_them in (trainer(3), trainer("auto"), SimpleNamespace(accelerator="cpu", devices=1)):
            with reserve_gpus(all_of_them) as share:
                assert share == {}


def test_a_lock_ends_with_the_last_process_that_holds_it(tmp_path: Path) -> None:
    with file_lock(tmp_path / "lock") as descriptor:
        assert descriptor is not None
        child = subprocess.Popen(["sleep", "60"], pass_fds=(descriptor,))
        with file_lock(tmp_path / "lock") as other:
            assert other is None
    assert is_locked(tmp_path / "lock")
    child.kill()
    child.wait()
    assert not is_locked(tmp_path / "lock")


@pytest.mark.slow
def test_a_sweep_is_a_group_in_wandb(tmp_path: Path) -> None:
    import wandb

    from oakleaf.runtime.loggers import WeightsAndBiases
    from oakleaf.sweeps.job_runner import wandb_variables
    from oakleaf.sweeps.wandb_report import log_report

    wandb.teardown()  # wandb reads the environment once per process, and each job of a sweep is a process of its own
    job = Job("hinge-seed0", [], ["loss=hinge", "seed=0"])
    variables = wandb_variables(tmp_path / "loss-seed-123456" / job.name, job)
    with mock.patch.dict(os.environ, variables):
        logger = WeightsAndBiases(str(tmp_path), tags=[])
        run = logger.run
        assert (run.group, run.job_type, run.name) == ("loss-seed-123456", "train", "hinge-seed0")
        assert set(run.tags) == {"sweep", "loss=hinge", "seed=0"}
        logger.finalize("success")
    Image.new("RGB", (8, 8)).save(tmp_path / "samples.png")
    files = ["report.md", "results.csv", "samples.png"]
    for name in files[:2]:
        (tmp_path / name).write_text("x\n")
    with mock.patch("wandb.init", wraps=__import__("wandb").init) as init:
        log_report(tmp_path, OmegaConf.create({"project": "p"}), ["", "loss"], [["1", "hinge"]], files)
    assert init.call_args.kwargs["job_type"] == "report"
    assert init.call_args.kwargs["group"] == tmp_path.name
    import wandb

    assert wandb.run is None  # closed


MISTAKES = [
    (["sweep.metric=fdi", "seed=0,1"], "sweep.metric=fdi: there is no such metric. Did you mean fid?"),
    (["sweep.fake=0", "seed=0,1"], "sweep.fake=0: should be greater than 0"),
    (["model=dcgan,dcgna"], "Did you mean model=dcgan?"),
    (["loss.nothing=1,2"], "loss.nothing: there is no such option"),
    (["optim.generator.lr=interval(0,1)"], "hydra/sweeper=optuna searches in it"),
    (["hydra/sweeper=optuna", "seed=0,1"], "a search compares single runs"),
    (["sweep.metric=fid,kid", "seed=0,1"], "sweep.metric=[fid,prdc]"),
    (["hydra/sweeper=optuna", "model=dcgan"], "nothing to search in"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("overrides", "expected"), MISTAKES)
def test_a_mistake_is_reported_before_any_job_starts(tmp_path: Path, overrides: list[str], expected: str) -> None:
    result = quick("train", "-m", *overrides, "logger=csv", folder=tmp_path)
    assert result.returncode == 1
    assert expected in result.stderr, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert not list(tmp_path.glob("outputs/sweeps/*/*/*"))


def test_paths_survive_the_command_line(tmp_path: Path) -> None:
    from oakleaf.sweeps.names import parse

    for text in ("a b", "it's", "x=1,2", "${now}"):
        (override,) = parse([f"key={quote(text)}"])
        assert str(override.value()) == text or text == "${now}"


@pytest.mark.parametrize("text", ["5", "[]", "{}", '{"name": "a"}', '{"name": 5, "overrides": 3, "swept": []}', "{ h"])
def test_the_status_reports_damaged_files(tmp_path: Path, text: str) -> None:
    write_json(tmp_path / SWEEP, {"jobs": [{"name": name, "overrides": [], "swept": []} for name in "ab"]})
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / JOB).write_text(text)
    write_job(tmp_path / "b", Job("b", [], [], "done"))
    assert status(tmp_path).splitlines()[::2] == ["a  waiting   its job.json is damaged", "1 waiting, 1 done"]
    for damaged in (text, f'{{"jobs": {text}}}', f'{{"jobs": [{text}]}}'):
        if damaged != '{"jobs": []}':
            (tmp_path / SWEEP).write_text(damaged)
            with pytest.raises(UserError, match=r"sweep\.json is damaged; run the sweep's command again"):
                status(tmp_path)


def test_the_status_of_a_folder_without_a_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no sweep"):
        status(tmp_path)
    write_json(tmp_path / SWEEP, {"jobs": [{"name": "a", "overrides": [], "swept": []}]})
    assert status(tmp_path).splitlines()[-1] == "1 waiting"
    assert json.loads((tmp_path / SWEEP).read_text())["jobs"]
    shutil.rmtree(tmp_path)


def test_a_metric_without_a_score_of_its_name_ranks_by_its_first_number() -> None:
    """sweep.metric=prdc computes precision, recall, density and coverage."""
    scores = {"classes": 3.0, "precision-classifier": 0.5, "recall-classifier": 0.25}
    better = {"classes": "", "precision-classifier": "higher", "recall-classifier": "higher"}
    jobs = [Job("seed0", [], ["seed=0"]), Job("seed1", [], ["seed=1"], state="done", scores=scores, better=better)]
    assert _ranking_score("prdc", jobs) == "precision-classifier"
    assert _ranking_score("recall", jobs) == "recall"
    assert _ranking_score("precison", jobs) == "precison"  # not a metric: reported as unknown
    assert _ranking_score("fid", [Job("seed0", [], [])]) == "fid"


def scored_jobs(scores: dict[str, list[float | None]]) -> list[Job]:
    """Jobs of combinations by name, with the score of each seed; None for a job that has failed."""
    jobs = []
    for loss, values in scores.items():
        for seed, value in enumerate(values):
            job = Job(f"{loss}{seed}", [], [f"loss={loss}", f"seed={seed}"], "failed" if value is None else "done")
            job.scores = {} if value is None else {"fid": value}
            job.better = dict.fromkeys(job.scores, "lower")
            jobs.append(job)
    return jobs


def test_a_combination_without_all_its_seeds_is_never_first() -> None:
    ranking = rank(scored_jobs({"a": [5.0, 6.0], "b": [1.0, None], "c": [None, None], "d": [7.0, 7.5]}), "fid")
    assert [one.swept[0][-1] for one in ranking] == ["a", "d", "b", "c"]
    assert [one.is_complete for one in ranking] == [True, True, False, False]
    text = verdict(ranking, differences(ranking), "fid")
    assert "2 of 4 combinations lack seeds" in text


def test_differences_are_tested_over_the_shared_seeds() -> None:
    """The p-values are those of a paired t-test, multiplied as Holm says."""
    first, near, far = [5.0, 6.0, 7.0, 8.0], [5.3, 5.9, 7.4, 8.1], [9.0, 10.1, 10.9, 12.2]
    ranking = rank(scored_jobs({"far": far, "first": first, "near": near}), "fid")
    found = differences(ranking)
    assert [one.swept[0] for one in ranking] == ["loss=first", "loss=near", "loss=far"]
    assert found[0] is None
    p_near, p_far = (ttest_rel(values, first).pvalue for values in (near, far))
    assert written_difference(found[1]).p == pytest.approx(p_near)
    assert written_difference(found[2]).p == pytest.approx(2 * p_far)
    assert not written_difference(found[1]).is_significant
    assert written_difference(found[2]).is_significant
    assert describe(found[1]).startswith("none (p = ")
    assert describe(found[2]).startswith("+4.05 (p < 0.001)") or describe(found[2]).startswith("+4.05 (p = ")
    text = verdict(ranking, found, "fid")
    assert "No difference in fid was found between the first one and number 2 " in text


def written_difference(difference: Difference | None) -> Difference:
    assert difference is not None
    return difference


def test_a_test_needs_two_seeds_and_equal_scores_are_no_difference() -> None:
    single = rank(scored_jobs({"a": [5.0], "b": [6.0]}), "fid")
    assert written_difference(differences(single)[1]).p is None
    assert "With one seed the spread is unknown" in verdict(single, differences(single), "fid")
    same = rank(scored_jobs({"a": [5.0, 6.0], "b": [5.0, 6.0]}), "fid")
    assert written_difference(differences(same)[1]).p == 1.0
    other = rank(scored_jobs({"a": [5.0, 6.0], "b": [6.0, 7.0]}), "fid")
    assert written_difference(differences(other)[1]).is_significant  # the same difference for each seed
    alone = rank(scored_jobs({"a": [5.0, 6.0]}), "fid")
    assert verdict(alone, differences(alone), "fid") == ""


def test_the_reported_command_reproduces_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = composed()
    config._set_flag("struct", False)
    overrides = ["hydra.mode=MULTIRUN", "hydra.sweep.dir=mine/it", "hydra/launcher=parallel", "hydra.job.name=x"]
    sources = [{"provider": "main", "path": "/x"}, {"provider": "command-line", "path": str(tmp_path / "conf")}]
    config.hydra = {
        "sweep": {"dir": "mine/it"},
        "overrides": {"hydra": overrides},
        "runtime": {"config_sources": sources},
    }
    assert sweeper_overrides(config) == ["hydra/launcher=parallel", "hydra.sweep.dir=mine/it", "--config-dir=conf"]
    config.hydra.overrides.hydra = ["hydra.mode=MULTIRUN"]
    config.hydra.runtime.config_sources = []
    assert sweeper_overrides(config) == []  # then the folder follows from the overrides


def test_curves_of_seeds_are_averaged_at_common_places() -> None:
    one = Series("a", [0, 10, 20], [0.0, 1.0, 2.0])
    two = Series("a", [0, 5, 15], [2.0, 2.5, 3.5])
    mean = mean_over_seeds("both", [one, two])
    assert (mean.x[0], mean.x[-1]) == (0, 15)
    assert mean.y[0] == pytest.approx(1.0)
    assert mean.y[-1] == pytest.approx(2.5)
    assert mean.high[0] - mean.y[0] == pytest.approx(2**0.5)  # the standard deviation with n - 1
    assert mean_over_seeds("one", [one]).y == one.y

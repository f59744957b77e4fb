"""The commands as a person types them: runs, resumes, samples, and mistakes."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from helpers.commands import command, quick
from helpers.composing import ROOT, SMALL
from helpers.marks import slow_except
from oakleaf.builder.load import load
from oakleaf.errors import UserError

TINY = [*SMALL, "max_images=320", "trainer=cpu", "logger=csv"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished run."""
    folder = tmp_path_factory.mktemp("run")
    result = command("train", *TINY, folder=folder)
    assert result.returncode == 0, result.stderr
    assert "Everything is in outputs/dcgan-digits/" in result.stdout
    assert (result.stdout + result.stderr).startswith("dcgan on digits"), "another library speaks first"
    return next(iter((folder / "outputs" / "dcgan-digits").iterdir()))


@pytest.mark.slow
def test_a_run_folder_has_the_documented_files(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    written = {"checkpoints", "config.yaml", "metrics.csv", "overrides.txt", "samples", "train.log"}
    assert names == written | {"report.html", "run.json", "curves.png", "neighbours.png"}
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert (run / "samples" / "animation.gif").is_file()
    assert "dcgan on digits (1 x 16 x 16)" in (run / "train.log").read_text()


@pytest.mark.slow
def test_resume_continues_in_the_same_folder(run: Path) -> None:
    where = run.parent.parent.parent
    for resume in (str(run), str(run / "checkpoints" / "last.ckpt")):
        longer = 640 if resume == str(run) else 960
        result = quick("train", f"resume={resume}", f"max_images={longer}", folder=where)
        assert result.returncode == 0, result.stderr
        assert f"{longer} images seen" in result.stdout
    assert [path.name for path in run.parent.iterdir()] == [run.name]
    again = quick("train", f"resume={run}", "data=digits", "max_images=960", folder=where)
    assert again.returncode == 0 and "nothing left to do" in again.stdout, "a choice that the run began with"
    refused = quick("train", f"resume={run}", "model=gan", folder=where)
    assert refused.returncode == 1
    assert "a new model is a new run" in refused.stderr


@pytest.mark.slow
def test_resume_auto_finds_the_run_of_the_same_command(tmp_path: Path) -> None:
    first = quick("train", *TINY, "resume=auto", folder=tmp_path)
    assert first.returncode == 0, first.stderr
    again = quick("train", "resume=auto", *TINY, folder=tmp_path)
    assert again.returncode == 0, again.stderr
    other = quick("train", *TINY, "resume=auto", "seed=5", folder=tmp_path)
    assert other.returncode == 0, other.stderr
    assert len(list((tmp_path / "outputs" / "dcgan-digits").iterdir())) == 2
    assert "starting one" in first.stdout
    assert "nothing left to do" in again.stdout
    rest = [o for o in TINY if "max_images" not in o]
    longer = quick("train", "resume=auto", *rest, "max_images=480", folder=tmp_path)
    assert "480 images seen" in longer.stdout, longer.stderr


@pytest.mark.slow
def test_a_run_writes_into_the_given_folder_and_over_no_other_run(tmp_path: Path) -> None:
    line = [*TINY, "folder=mine/first"]
    first = quick("train", *line, folder=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "Everything is in mine/first/" in first.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    kept = (tmp_path / "mine" / "first" / "checkpoints" / "last.ckpt").read_bytes()
    assert "mine/first holds a run: resume=mine/first resumes it" in quick("train", *line, folder=tmp_path).stderr
    moved = quick("train", "resume=mine/first", "folder=mine/second", folder=tmp_path)
    assert "folder=mine/second: a resumed run stays in its own folder, mine/first" in moved.stderr
    swept = quick("train", "-m", *line, "seed=0,1", folder=tmp_path)
    assert "hydra.sweep.dir=FOLDER" in swept.stderr
    assert (tmp_path / "mine" / "first" / "checkpoints" / "last.ckpt").read_bytes() == kept
    longer = quick("train", *line, "max_images=480", "resume=auto", folder=tmp_path)
    assert "480 images seen. Everything is in mine/first/" in longer.stdout, longer.stderr


@pytest.mark.slow
def test_sample_needs_only_the_checkpoint(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / "checkpoints" / "last.ckpt", tmp_path / "it.ckpt")
    grids = []
    home = f"{tmp_path}-home"  # empty, and apart: libraries leave their own files there
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        words = ["sample", "checkpoint=it.ckpt", "count=20", f"seed={seed}", f"out={out}"]
        result = command(*words, folder=tmp_path, HOME=home) if out == "a" else quick(*words, folder=tmp_path)
        assert result.returncode == 0, result.stderr
        assert sorted(path.name for path in (tmp_path / out).iterdir()) == ["grid.png", "samples.npy"]
        grids.append(np.load(tmp_path / out / "samples.npy"))
        assert Image.open(tmp_path / out / "grid.png").width >= 250
    assert grids[0].shape == (20, 16, 16, 1)
    assert grids[0].dtype == np.uint8
    assert np.array_equal(grids[0], grids[1])
    assert not np.array_equal(grids[0], grids[2])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "it.ckpt"]


@pytest.mark.slow
def test_sample_interpolates_and_does_latent_arithmetic(run: Path, tmp_path: Path) -> None:
    def drawn(*arguments: str) -> np.ndarray:
        result = quick("sample", f"checkpoint={run}", f"out={tmp_path}/out", *arguments, folder=tmp_path)
        assert result.returncode == 0, result.stderr
        return np.load(tmp_path / "out" / "samples.npy").astype(int)

    alone = drawn("count=12")
    between = drawn("mode=interpolate", "mode.pairs=3", "mode.steps=5").reshape(3, 5, 16, 16, 1)
    pairs = drawn("count=6")
    assert np.abs(between[:, 0] - pairs[:3]).max() <= 1  # from one sample
    assert np.abs(between[:, -1] - pairs[3:]).max() <= 1  # to another
    a, b, c = "mode.a=[0,3]", "mode.b=[5,6]", "mode.c=[5,6]"
    sums = drawn("mode=arithmetic", a, b, c)
    assert sums.shape == (9 + 9, 16, 16, 1)
    assert np.abs(sums[[0, 3]] - alone[[0, 3]]).max() <= 1
    assert np.abs(sums[[1, 2]] - alone[[5, 5]]).max() <= 1
    assert np.abs(sums[9 + 4] - sums[6]).max() <= 1  # a - b + b is a's mean
    assert np.abs(sums[9] - sums[9 + 4]).max() > 1  # and neighbours are others


@pytest.mark.slow
def test_a_moved_run_resumes_in_its_new_place(run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    before = (run / "checkpoints" / "last.ckpt").read_bytes()
    result = quick("train", "resume=moved", "max_images=1600", "optim.generator.lr=1e-5", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "1,600 images seen. Everything is in moved/" in result.stdout
    assert load(moved).images_seen == 1600
    assert (run / "checkpoints" / "last.ckpt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["moved"]


@pytest.mark.slow
def test_numbers_and_booleans_may_be_written_in_several_ways(tmp_path: Path) -> None:
    result = quick("train", *TINY, "data.flip=no", "data.batch_size=1e1", "max_images=1e2", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    (folder,) = tmp_path.glob("outputs/*/*")
    recipe = OmegaConf.load(folder / "config.yaml")
    assert (recipe.data.flip, recipe.data.batch_size, recipe.max_images) == (False, 10, 100)
    drawn = quick("sample", f"checkpoint={folder}", "count=1e1", "ema=off", folder=tmp_path)
    assert "10 images of 16 x 16" in drawn.stdout, drawn.stderr


@pytest.mark.slow
def test_null_removes_a_component(tmp_path: Path) -> None:
    result = quick("train", *TINY, "loss=relativistic", "loss.penalties.r2=null", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    (folder,) = tmp_path.glob("outputs/*/*")
    header = (folder / "metrics.csv").read_text().splitlines()[0]
    assert "loss/discriminator/r1" in header
    assert "loss/discriminator/r2" not in header


MISTAKES = [
    (["model=dcgna"], ["Did you mean model=dcgan?", "Choices: acgan, "]),
    (["model.foo=1"], ["model.foo: there is no such option"]),
    (["mdoel=dcgan"], ["Did you mean model?"]),
    (["trainer.max_epochs=abc"], ["trainer.max_epochs=abc: should be a valid integer"]),
    (["optim.generator.lr=-1"], ["optim.generator.lr=-1: should be greater than 0"]),
    (["optim.generator.lr="], ["optim.generator.lr=: should be a valid number"]),
    (["optim.generatr.lr=1"], ["Did you mean optim.generator?"]),
    (["+typo=1"], ["typo: there is no such option"]),
    (["+model.game.generator.widht=3"], ["Did you mean model.game.generator.width?"]),
    (["loss=hinge", "+loss.penalties.r1=1"], ["should be a mapping with a _target_"]),
    (["data=folder", "data.root=/nowhere"], ["/nowhere does not exist", "data.root="]),
    (["data=celeba", "data.root=/nowhere"], ["img_align_celeba"]),
    (["data.size=17"], ["nearest: 16"]),
    (["data.batch_size=0"], ["data.batch_size=0: should be greater than 0"]),
    (["trainer.gradient_clip_val=1"], ["optim.<player>.clip=1"]),
    (["+trainer.max_steps=9"], ["max_images="]),
    (["trainer.accumulate_grad_batches=2"], ["data.batch_size"]),
    (["trainer.accelerator=abacus"], ["trainer: ", "trainer=auto"]),
    (["resume=/nowhere"], ["/nowhere: there is no such file or folder"]),
    (["resume=file"], ["is not a checkpoint"]),
    (["model.game.generator._target_=oakleaf.Nothing"], ["there is no such class"]),
    (["trainer.overfit_batches=1"], ["data.root=FOLDER"]),
    (["trainer.precision=16-mixed"], ["bf16-mixed"]),
    (["trainer.strategy=ddp"], ["trainer=ddp"]),
    (["augment=noise", "augment.sd=null"], ["augment.sd=null: should be a valid number"]),
    (["optim.generator.schedules=null"], ["optim.generator.schedules"]),
    (["optim=sgd", "optim.generator.optimizer.momentum=-1"], ["optimizer.momentum=-1: should be greater"]),
    (
        ["+optim.generator.schedules.rate={_target_: oakleaf.optim.schedules.Linear, to: 0, over: 9}"],
        ["optim.schedules.rate"],
    ),
    (["data.size=[16,16,16]"], ["data.size"]),
    (["data.crop=-5"], ["data.crop"]),
    (["data.size=0"], ["data.size=0"]),
    (["data.cache=/dev/null/x"], ["data.cache=FOLDER"]),
    (["watch_every=5"], ["of Oakleaf 0.1", "only version 0.1.0 can read it"]),
    (["+model.game.generator.told=norm"], ["of Oakleaf 0.1"]),
    (["+callbacks.health={_target_: oakleaf.callbacks.Health}"], ["of Oakleaf 0.1", "version 0.1.0 only"]),
    (["model.game.prior._target_=oakleaf.priors.Normal"], ["of Oakleaf 0.1", "version 0.1.0 only"]),
    (["model=null"], [""]),
    (["a b"], ["group=choice or some.key=value"]),
]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    slow_except(MISTAKES[::4], MISTAKES),
    ids=[" ".join(overrides) for overrides, _ in MISTAKES],
)
def test_a_mistake_is_told_in_one_sentence(tmp_path: Path, overrides: list[str], expected: list[str]) -> None:
    (tmp_path / "file").write_text("not a checkpoint")
    result = quick("train", *overrides, "logger=csv", folder=tmp_path)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr + result.stdout
    assert all(words in result.stderr for words in expected), result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert "rror" not in result.stdout, result.stdout
    assert not list(tmp_path.glob("outputs/*/*")), "nothing was begun, so no folder stays"


@pytest.mark.slow
def test_a_user_error_is_one_sentence_in_a_separate_process(tmp_path: Path) -> None:
    result = command("train", "optim.generator.lr=-1", folder=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "optim.generator.lr=-1: should be greater than 0\n"


def test_trainer_gpu_without_a_gpu_is_an_error(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    result = quick("train", "trainer=gpu", folder=tmp_path)
    assert result.returncode == 1
    assert "trainer=auto takes what this machine has" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_a_batch_of_one_is_refused_under_batchnorm(tmp_path: Path) -> None:
    result = quick("train", "model=bigan", "data.batch_size=1", "logger=csv", "trainer=cpu", folder=tmp_path)
    assert result.returncode == 1
    assert "data.batch_size=2" in result.stderr
    assert "Traceback" not in result.stderr + result.stdout


@pytest.mark.slow
def test_a_corrupt_picture_is_named(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / "set").mkdir(exist_ok=True)
        Image.new("RGB", (64, 64)).save(tmp_path / "set" / f"{i}.jpg")
    broken = tmp_path / "set" / "1.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    arguments = ["train", *TINY, "data=folder", f"data.root={tmp_path}/set", "data.channels=3", "data.size=16"]
    result = quick(*arguments, folder=tmp_path)
    assert result.returncode == 1
    assert "1.jpg: can't be read" in result.stderr
    assert "Traceback" not in result.stderr
    skipped = quick(*arguments, "data.on_corrupt=skip", folder=tmp_path)
    assert skipped.returncode == 0, skipped.stderr
    assert "1 of 3 pictures skipped" in skipped.stdout + skipped.stderr


def test_the_traceback_is_shown_on_request(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"optim\.generator\.lr=-1"):
        quick("train", "optim.generator.lr=-1", folder=tmp_path, HYDRA_FULL_ERROR="1")


@pytest.mark.slow
def test_user_errors_of_sample_are_one_sentence(run: Path, tmp_path: Path) -> None:
    for arguments, words in (
        ([], "checkpoint= is missing"),
        (["checkpoint=nowhere"], "no such file or folder"),
        ([f"checkpoint={run}", "mode=gird"], "Did you mean mode=grid?"),
        ([f"checkpoint={run}", "mode.typo=1"], "mode.typo: there is no such option"),
        ([f"checkpoint={run}", "seed=abc"], "seed=abc: should be a valid integer"),
        ([f"checkpoint={run}", "+foo=1"], "foo: there is no such option"),
        ([f"checkpoint={run}", f"out={run}/config.yaml"], "out="),
        ([f"checkpoint={run}", "count=0"], "count=0: should be greater than 0"),
        ([f"checkpoint={run}", "mode=arithmetic", "mode.b=[-1,0,1]"], "mode.b=[-1, 0, 1]"),
        ([f"checkpoint={run}", "device=tpu9"], "not on this machine"),
    ):
        result = quick("sample", *arguments, folder=tmp_path)
        assert result.returncode == 1
        assert words in result.stderr, result.stderr
        assert "Traceback" not in result.stderr


def test_help_names_every_group_its_choices_and_examples(tmp_path: Path) -> None:
    result = quick("train", "--help", folder=tmp_path)
    assert result.returncode == 0
    for group in ("callbacks", "data", "experiment", "logger", "loss", "model", "optim", "trainer"):
        listed = ", ".join(sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml")))
        assert f"{group}: {listed}\n" in result.stdout
    assert result.stdout.count("\n  python train.py ") == 3
    assert not list(tmp_path.iterdir())


def test_the_command_modules_import_no_torch() -> None:
    heavy = "any(name in sys.modules for name in ('torch', 'lightning'))"
    code = f"import sys; from oakleaf.cli import train, sample; sys.exit({heavy})"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.slow
def test_training_imports_no_slow_library_that_it_does_not_use() -> None:
    code = "import sys; from oakleaf.cli.hardware import import_torch; import_torch(); import lightning.pytorch\n"
    code += (
        "slow = {'matplotlib', 'scipy'} & sys.modules.keys(); import matplotlib.figure, scipy.optimize; sys.exit(slow)"
    )
    result = subprocess.run([sys.executable, "-c", code], timeout=120, capture_output=True, text=True)
    assert result.stderr == "set()\n"  # and they can be imported when they are


@pytest.mark.slow
def test_arguments_of_the_trainer_need_no_plus(tmp_path: Path) -> None:
    result = quick(
        "train", *TINY, "trainer.limit_train_batches=2", "trainer.max_epochs=3", "max_images=null", folder=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert "96 images seen" in result.stdout

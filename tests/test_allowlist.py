"""Checkpoints and YAML files are data: none of them can import, call, read or write anything that is not allowed."""

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from helpers.commands import quick
from helpers.composing import FP32, SMALL, composed
from helpers.training import Fit, built
from oakleaf.builder.build import build
from oakleaf.builder.instantiate import instantiate_allowed
from oakleaf.builder.load import load
from oakleaf.config.allowlist import TRUST, locate
from oakleaf.config.paths import conf_dir
from oakleaf.errors import UserError
from oakleaf.runtime.checkpoint_io import read_checkpoint

TINY = [*SMALL, "data.batch_size=8", "max_images=16"]

FOREIGN = [
    "os.system", "builtins.eval", "builtins.open", "subprocess.Popen", "pathlib.Path", "functools.partial",
    "importlib.import_module",
    "torch.load", "torch.hub.load", "torch.compile", "torch.os.system", "torch.utils.cpp_extension.load",
    "torch._inductor.codecache.FileLock", "torch.nn.init.constant_", "torch.nn.Module.load_state_dict",
    "torch.nn.modules.module.functools.partial", "torch.nn.functional.torch.load", "torch.serialization.load",
    "torch.nn", "torch.nn.modules.module.OrderedDict", "torchvision.datasets.CIFAR10", "torchvision.io.read_file",
    "lightning.fabric.utilities.cloud_io._load", "lightning.pytorch.Trainer.fit", "lightning.pytorch.cli.LightningCLI",
    "oakleaf.data.cache.os.system", "oakleaf.data.cache.shutil.rmtree", "oakleaf.data.cache.Path",
    "oakleaf.data.cache.decode_to_cache", "oakleaf.cli.train._forget",
    "oakleaf.runtime.checkpoint_io.AtomicCheckpointIO", "oakleaf.runtime.run_dir.new_run_dir",
    "oakleaf.builder.recipe.instantiate_allowed", "oakleaf.runtime.loggers.uuid",
    "oakleaf.data.cache.ThreadPoolExecutor", "oakleaf.errors.UserError",
    "oakleaf.data.sources.hashlib.file_digest", "oakleaf..data", ".os.system", "oakleaf.data.__builtins__", "",
    "oakleaf",
]  # fmt: skip


@pytest.mark.parametrize("target", FOREIGN)
def test_a_name_that_is_not_allowed_is_refused(target: str) -> None:
    with pytest.raises(UserError, match=r"may build networks|there is no such class"):
        locate(target)


@pytest.mark.parametrize("target", [7, None, ["os.system"], {"a": "b"}])
def test_a_target_that_is_not_a_name_is_refused(target: Any) -> None:
    with pytest.raises(UserError, match="may build networks"):
        locate(target)


def test_a_refused_module_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bite.py").write_text(f"open({str(tmp_path / 'bitten')!r}, 'w')\nclass Network: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=f"{TRUST}=PACKAGE"):
        build(composed("model.game.generator._target_=bite.Network", folder=tmp_path))
    assert not (tmp_path / "bitten").exists()
    monkeypatch.setenv(TRUST, "else.where, bite")
    assert locate("bite.Network").__name__ == "Network"
    assert (tmp_path / "bitten").exists(), "then the test could have failed"


NESTED = {
    "in itself": lambda bad: bad,
    "in a list": lambda bad: {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "torch.nn.ReLU"}, bad]},
    "partial": lambda bad: {**bad, "_partial_": True},
    "unbuilt": lambda bad: {"_target_": "oakleaf.losses.loss.Loss", "_recursive_": False, "objective": bad},
    "among things": lambda bad: {"some": {"thing": [{"deeper": bad}]}},
}


@pytest.mark.parametrize("wrapped", NESTED.values(), ids=NESTED)
def test_every_node_is_checked_before_the_first_is_built(wrapped: Callable[[Any], Any]) -> None:
    called: list[str] = []
    bad = {"_target_": "os.putenv", "_args_": ["OAKLEAF_BITTEN", "1"]}
    with pytest.raises(UserError, match=r"os\.putenv"):
        instantiate_allowed(wrapped(bad))
    assert "OAKLEAF_BITTEN" not in os.environ
    assert not called


def test_resolved_interpolations_are_checked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="interpolation"):
        instantiate_allowed({"_target_": "torch.nn.Linear", "in_features": "${oc.env:HOME}", "out_features": 1})
    config = composed("model.name=os.system", "model.game.generator._target_=${model.name}", folder=tmp_path)
    with pytest.raises(UserError, match=r"os\.system"):
        build(config)


def test_a_yaml_with_a_foreign_target_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine" / "model"
    mine.mkdir(parents=True)
    (mine / "evil.yaml").write_text(f"name: evil\ngame: {{_target_: os.mkdir, path: {tmp_path}/bitten}}\n")
    result = quick("train", f"hydra.searchpath=[file://{mine.parent}]", "model=evil", "logger=csv", folder=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("model.game._target_=os.mkdir: a configuration may build networks")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "bitten").exists()


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The content of a small run's checkpoint."""
    folder = tmp_path_factory.mktemp("honest")
    module, data, trainer, _ = built(*FP32, *TINY, folder=folder)
    trainer.fit(module, datamodule=data)
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def changed(content: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """Return a copy with another value at a dotted path of the configuration."""
    content = {**content, "hyper_parameters": json.loads(json.dumps(content["hyper_parameters"]))}
    node = content["hyper_parameters"]
    *above, last = place.split(".")
    for key in above:
        node = node[key]
    node[last] = value
    return content


LOOP: list[Any] = []
LOOP.append(LOOP)
LAUGHS: Any = ["ha"]
for _ in range(30):
    LAUGHS = [LAUGHS, LAUGHS]
AGAIN = range(1, 40)
GROWING_TEXT = {"a0": "ha"} | {f"a{i}": f"${{model.a{i - 1}}}${{model.a{i - 1}}}" for i in AGAIN}
GROWING_NODE = {"a0": 1} | {f"a{i}": {"x": f"${{data.a{i - 1}}}", "y": f"${{..a{i - 1}}}"} for i in AGAIN}
READS = "read this machine's environment or files"
HOSTILE = {
    "a call": ("model.game.generator", {"_target_": "os.system", "command": "touch bitten"}, "is refused"),
    "a call in a part that load does not build": ("logger.table", {"_target_": "os.abort"}, "is refused"),
    "a name imported elsewhere": ("loss.objective._target_", "oakleaf.data.cache.os.abort", "there is no such class"),
    "a hidden name": ("model.game.generator._target_", "${model.name}", "is refused"),
    "a key from the environment": ("model.name", "${oc.env:WANDB_API_KEY}", READS),
    "the same, escaped": ("model.name", "\\${oc.env:WANDB_API_KEY}", READS),
    "the same, by a hidden resolver": ("model.name", "${${loss.norm}:HOME}", READS),
    "the same, behind what is allowed": ("data.cache", "${oc.env:OAKLEAF_CACHE,${oc.env:A}}", READS),
    "a folder made by reading": ("model.name", "${run_dir:null,null,../../bitten,[]}", READS),
    "a list within itself": ("model.name", LOOP, "40 levels or 100,000 values"),
    "a billion laughs": ("model.name", LAUGHS, "40 levels or 100,000 values"),
    "a tensor": ("model.name", torch.zeros(3), "only text and numbers"),
    "a key that is none": ("data", {(1, 2): "x"}, "only text and numbers"),
    "a wide network": ("model.game.generator.width", 10**9, "which width is wrong"),
    "a large network": ("model.game.generator.width", 60_000, "GB of memory"),
    "another network": ("model.game.generator.width", 16, "do not fit the networks"),
    "a number that is none": ("model.game.generator.width", "wide", "valid integer"),
    "a text that grows": ("model", GROWING_TEXT, "becomes too large"),
    "a node that grows": ("data", GROWING_NODE, "becomes too large"),
    "a text that leads to itself": ("model.name", "${model.name}", "refers to itself"),
}  # fmt: skip


@pytest.mark.parametrize(("place", "value", "words"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_configuration_is_refused(
    honest: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, value: Any, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(changed(honest, "model.name", "dcgan"), tmp_path / "good.ckpt")
    assert load(tmp_path / "good.ckpt").images_seen == 16
    torch.save(changed(honest, place, value), tmp_path / "bad.ckpt")
    with pytest.raises(UserError, match=words):
        load(tmp_path / "bad.ckpt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.ckpt", "good.ckpt"]


def test_every_command_refuses_it_in_one_sentence(honest: dict[str, Any], tmp_path: Path) -> None:
    torch.save(changed(honest, "model.game._target_", "os.system"), tmp_path / "bad.ckpt")
    for arguments in (
        ["sample", "checkpoint=bad.ckpt"],
        ["evaluate", "checkpoint=bad.ckpt"],
        ["translate", "checkpoint=bad.ckpt", f"input={tmp_path}", "out=out"],
        ["train", "resume=bad.ckpt", "logger=csv"],
    ):
        Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
        result = quick(*arguments, folder=tmp_path)
        assert result.returncode == 1
        assert "bad.ckpt is refused: model.game._target_=os.system" in result.stderr, result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_a_value_from_the_environment_is_stored_resolved(fit: Fit, tmp_path: Path) -> None:
    fit(*TINY, "data.root=${oc.env:OAKLEAF_NOWHERE,here}")
    stored = read_checkpoint(tmp_path)["hyper_parameters"]
    assert stored["data"]["root"] == "here"
    assert stored["data"]["cache"].startswith("${oc.env:OAKLEAF_CACHE,"), "ours stays open, for another machine"
    assert load(tmp_path).images_seen == 16


def test_a_missing_class_that_is_not_needed_does_not_prevent_loading(honest: dict[str, Any], tmp_path: Path) -> None:
    torch.save(changed(honest, "callbacks.log_scalars._target_", "oakleaf.callbacks.Renamed"), tmp_path / "old.ckpt")
    assert load(tmp_path / "old.ckpt").images_seen == 16


@pytest.mark.parametrize("part", ["optimizer_states", "loops", "callbacks", "iteration", "epoch", "state_dict"])
@pytest.mark.slow
def test_a_part_of_a_wrong_type_is_reported_before_resuming(honest: dict[str, Any], tmp_path: Path, part: str) -> None:
    torch.save({**honest, part: "abc"}, tmp_path / "bad.ckpt")
    result = quick("train", "resume=bad.ckpt", "logger=csv", folder=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("bad.ckpt is ")
    assert len(result.stderr.splitlines()) == 1


class Bite:
    def __reduce__(self) -> Any:
        return os.system, ("touch bitten",)


def test_a_pickle_that_calls_is_refused(
    honest: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({**honest, "state_dict": Bite()}, "bad.ckpt")
    (tmp_path / "raw.ckpt").write_bytes(pickle.dumps(Bite()))
    for name in ("bad.ckpt", "raw.ckpt"):
        with pytest.raises(UserError, match="is not a checkpoint, or it is damaged"):
            read_checkpoint(tmp_path / name)
    assert not (tmp_path / "bitten").exists()


def test_a_compressed_archive_is_not_read(honest: dict[str, Any], tmp_path: Path) -> None:
    torch.save({**honest, "state_dict": {"bomb": torch.zeros(10**7)}}, tmp_path / "wide.ckpt")
    with (
        zipfile.ZipFile(tmp_path / "wide.ckpt") as wide,
        zipfile.ZipFile(tmp_path / "bomb.ckpt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in wide.infolist():
            bomb.writestr(entry.filename, wide.read(entry))
    assert (tmp_path / "bomb.ckpt").stat().st_size < (tmp_path / "wide.ckpt").stat().st_size / 50
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(tmp_path / "bomb.ckpt")


def test_an_archive_with_parent_paths_writes_nothing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "out.ckpt", "w") as archive:
        archive.writestr("../../bitten", "x")
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    with pytest.raises(UserError, match="is not a checkpoint"):
        read_checkpoint(tmp_path / "out.ckpt")
    assert not list(tmp_path.parent.glob("bitten")) + list(tmp_path.parent.parent.glob("bitten"))


@pytest.mark.slow
def test_a_decompression_bomb_is_reported_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set").mkdir()
    for i in range(8):
        Image.new("L", (16, 16)).save(tmp_path / "set" / f"{i}.png")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "set" / "8.png")  # 400 million pixels in some thousand bytes
    assert (tmp_path / "set" / "8.png").stat().st_size < 100_000
    options = ["data=folder", f"data.root={tmp_path}/set", "data.size=16", "data.channels=1", "data.source.labels=none"]
    result = quick("train", *TINY, *options, "logger=csv", "trainer=cpu", folder=tmp_path)
    assert result.returncode == 1
    assert "8.png: can't be read (Image size (400000000 pixels)" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_run_stores_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, key = tmp_path / "home-of-alice", "b1tes" * 8
    pictures = home / "pictures"
    pictures.mkdir(parents=True)
    for i in range(8):
        Image.new("L", (16, 16), i).save(pictures / f"{i}.png")
    (pictures / "broken.png").write_bytes(b"no picture")
    secrets = {"HOME": str(home), "WANDB_API_KEY": key, "WANDB_MODE": "offline", "AWS_SECRET_ACCESS_KEY": key}
    options = ["data=folder", f"data.root={pictures}", f"data.cache={home}/cache", "data.on_corrupt=skip"]
    result = quick("train", *TINY, *options, "data.size=16", "trainer=cpu", "logger=wandb", folder=home, **secrets)
    assert result.returncode == 0, result.stderr
    (run,) = home.glob("outputs/*/*")
    left = [path for path in run.rglob("*") if path.is_file()]
    assert {"last.ckpt", "config.yaml", "metrics.csv", "overrides.txt"} <= {path.name for path in left}
    for path in left:
        content = path.read_bytes()
        assert key.encode() not in content, path
        assert "wandb" in path.parts or str(home).encode() not in content, path
    recipe = read_checkpoint(run)["hyper_parameters"]
    assert (recipe["data"]["root"], recipe["data"]["cache"]) == ("~/pictures", "~/cache")
    assert str(home) not in result.stdout + result.stderr
    again = quick("train", *TINY, *options, "logger=csv", f"resume={run}", "max_images=32", folder=tmp_path, **secrets)
    assert again.returncode == 0, again.stderr
    drawn = quick("sample", f"checkpoint={run}", f"out={tmp_path}/out", folder=tmp_path, **secrets)
    assert drawn.returncode == 0, drawn.stderr
    assert conf_dir().is_dir()
